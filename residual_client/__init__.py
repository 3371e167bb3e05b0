"""Ask a residual service from Python: arrays and data frames in, decisions out.

  errors    every exception of the package
  wire      requests and answers as values; reading answers
  retries   when to repeat a request, and how long to wait before
  samples   samples as request bodies: `.npy`, JSON, images
  frames    answers as pandas data frames
  calls     each call as a generator of requests: everything but sending
  client    `Client` and `AsyncClient`: send what `calls` yields
  local     `LocalModel`: a model folder that answers like a client
  chunks    files in chunks of samples
  writing   answers as CSV, lines of JSON or `.npy`
  __main__  the command `residual`: chunks in, `Client` or `LocalModel`, writing out

It imports the modules of `detector` that do not load ONNX Runtime, and the whole of it for `LocalModel` only;
neither `training` nor `service`. Only `client` knows httpx.
"""

from detector.results import Classes, Contribution, Scores
from residual_client.client import AsyncClient, Client
from residual_client.errors import (
    AnswerError,
    BadRequest,
    ClientError,
    NoAnswer,
    NotFound,
    Overloaded,
    Problem,
    RequestError,
    ServiceFailed,
    Unauthorized,
)

__all__ = [
    "AnswerError",
    "AsyncClient",
    "BadRequest",
    "Classes",
    "Client",
    "ClientError",
    "Contribution",
    "NoAnswer",
    "NotFound",
    "Overloaded",
    "Problem",
    "RequestError",
    "Scores",
    "ServiceFailed",
    "Unauthorized",
]
