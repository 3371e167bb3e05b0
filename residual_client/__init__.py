"""Ask a residual service from Python: arrays and data frames in, decisions out."""

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
