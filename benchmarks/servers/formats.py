"""Bodies that contenders read and answer: a path, a media type, an encoder and a decoder for each."""

import dataclasses
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.servers.work import FOLDER, Work

JSON, NPY, RAW = "application/json", "application/x-npy", "application/octet-stream"


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of body is sent to a contender.

    Attributes
    ----------
    path : str
    content_type : str
    name : str
        Name of the body; contenders with the same name are sent the same file.
    encode : callable
        Samples, float64 of shape (n, *sample_shape), -> body.
    scores : callable
        Content of an answer -> scores, shape (n,).
    headers_of : callable
        Shape of all samples -> further headers.
    """

    path: str
    content_type: str
    name: str
    encode: Callable[[np.ndarray], bytes]
    scores: Callable[[bytes], np.ndarray]
    headers_of: Callable[[tuple[int, ...]], dict[str, str]] = lambda shape: {}

    def headers(self, work: Work, n_rows: int) -> dict[str, str]:
        """Return the headers of a request with so many rows."""
        return {"Content-Type": self.content_type, **self.headers_of((n_rows, *work.shape))}

    def file(self, work: Work, n_rows: int) -> Path:
        """Return the file with the body of so many rows; write it if it is missing."""
        path = FOLDER / "bodies" / f"{work.name}-{n_rows}.{self.name}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".partial")
            temporary.write_bytes(self.encode(work.samples(n_rows)))
            temporary.replace(path)
        return path


def dump_json(document: Any) -> bytes:
    """Encode a document with arrays, each value with the fewest digits that identify it."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_member(name: str, samples: np.ndarray) -> bytes:
    """Encode JSON with the samples as its only member."""
    return dump_json({name: samples})


encode_instances = partial(encode_member, "instances")


def encode_npy(samples: np.ndarray) -> bytes:
    """Encode NumPy's file format, float32."""
    content = io.BytesIO()
    np.save(content, samples.astype(np.float32))
    return content.getvalue()


def encode_raw(samples: np.ndarray) -> bytes:
    """Encode little-endian float32 and nothing else."""
    return samples.astype("<f4").tobytes()


def score_member(content: bytes) -> np.ndarray:
    """Read `{"score": [...]}`, or one number."""
    return np.atleast_1d(np.array(orjson.loads(content)["score"], dtype=np.float64))


# --- peers --------------------------------------------------------------------------------------------------


encode_x = partial(encode_member, "x")  # BentoML and LitServe: the argument of a function
encode_inputs = partial(encode_member, "inputs")  # MLflow's name of tensors


def bentoml_scores(content: bytes) -> np.ndarray:
    """Read an object for each row."""
    return np.array([one["score"] for one in orjson.loads(content)], dtype=np.float64)


def mlflow_scores(content: bytes) -> np.ndarray:
    """Read the scores in MLflow's member `predictions`."""
    return np.array(orjson.loads(content)["predictions"]["score"], dtype=np.float64)


def encode_v2(samples: np.ndarray) -> bytes:
    """Encode Open Inference Protocol V2, all values in one list."""
    tensor = {"name": "samples", "shape": samples.shape, "datatype": "FP32", "data": samples.ravel()}
    return dump_json({"inputs": [tensor]})


def encode_v2_binary(samples: np.ndarray) -> bytes:
    """Encode Open Inference Protocol V2 with the binary tensor extension; the answer is JSON."""
    return _v2_header(samples.shape) + encode_raw(samples)


def v2_binary_headers(shape: tuple[int, ...]) -> dict[str, str]:
    """Return the header that says where the tensor begins."""
    return {"Inference-Header-Content-Length": str(len(_v2_header(shape)))}


def _v2_header(shape: tuple[int, ...]) -> bytes:
    size = {"binary_data_size": 4 * int(np.prod(shape))}
    return dump_json(
        {"inputs": [{"name": "samples", "shape": shape, "datatype": "FP32", "parameters": size}]}
    )


def v2_scores(content: bytes) -> np.ndarray:
    """Read the output named `score`."""
    outputs = {output["name"]: output["data"] for output in orjson.loads(content)["outputs"]}
    return np.array(outputs["score"], dtype=np.float64).ravel()
