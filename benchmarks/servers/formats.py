"""How contenders take samples and answer scores: for each body a path, a media type and two functions."""

import dataclasses
import io
from collections.abc import Callable
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
        Of the body; contenders with equal ones are sent the same file.
    encode : callable
        Samples, float64 of shape (n, *sample_shape), to a body.
    scores : callable
        An answer's content to scores, shape (n,).
    headers_of : callable
        From the shape of all samples to headers beside the media type.
    """

    path: str
    content_type: str
    name: str
    encode: Callable[[np.ndarray], bytes]
    scores: Callable[[bytes], np.ndarray]
    headers_of: Callable[[tuple[int, ...]], dict[str, str]] = lambda shape: {}

    def headers(self, work: Work, n_rows: int) -> dict[str, str]:
        """Of a request with so many rows."""
        return {"Content-Type": self.content_type, **self.headers_of((n_rows, *work.shape))}

    def file(self, work: Work, n_rows: int) -> Path:
        """The body of so many rows, made where it is missing."""
        path = FOLDER / "bodies" / f"{work.name}-{n_rows}.{self.name}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".partial")
            temporary.write_bytes(self.encode(work.samples(n_rows)))
            temporary.replace(path)
        return path


def dump_json(document: Any) -> bytes:
    """JSON of arrays as they are, with as few digits as tell their values."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_instances(samples: np.ndarray) -> bytes:
    """The key that TensorFlow Serving, KServe V1, Vertex AI and our own service read."""
    return dump_json({"instances": samples})


def encode_npy(samples: np.ndarray) -> bytes:
    """NumPy's file format, float32."""
    content = io.BytesIO()
    np.save(content, samples.astype(np.float32))
    return content.getvalue()


def encode_raw(samples: np.ndarray) -> bytes:
    """Little-endian float32 and nothing else."""
    return samples.astype("<f4").tobytes()


def score_member(content: bytes) -> np.ndarray:
    """`{"score": [...]}`, or one number."""
    return np.atleast_1d(np.array(orjson.loads(content)["score"], dtype=np.float64))


# --- peers --------------------------------------------------------------------------------------------------


def encode_x(samples: np.ndarray) -> bytes:
    """The argument of a function."""
    return dump_json({"x": samples})


def bentoml_scores(content: bytes) -> np.ndarray:
    """An object for each row."""
    return np.array([one["score"] for one in orjson.loads(content)], dtype=np.float64)


def encode_inputs(samples: np.ndarray) -> bytes:
    """MLflow's key for tensors."""
    return dump_json({"inputs": samples})


def mlflow_scores(content: bytes) -> np.ndarray:
    """What the function answered, below MLflow's key."""
    return np.array(orjson.loads(content)["predictions"]["score"], dtype=np.float64)


def encode_v2(samples: np.ndarray) -> bytes:
    """Open Inference Protocol V2, all values in one list."""
    tensor = {"name": "samples", "shape": samples.shape, "datatype": "FP32", "data": samples.ravel()}
    return dump_json({"inputs": [tensor]})


def encode_v2_binary(samples: np.ndarray) -> bytes:
    """The same with the binary tensor extension, answered in JSON."""
    return _v2_header(samples.shape) + encode_raw(samples)


def v2_binary_headers(shape: tuple[int, ...]) -> dict[str, str]:
    """Where the tensor begins."""
    return {"Inference-Header-Content-Length": str(len(_v2_header(shape)))}


def _v2_header(shape: tuple[int, ...]) -> bytes:
    size = {"binary_data_size": 4 * int(np.prod(shape))}
    return dump_json(
        {"inputs": [{"name": "samples", "shape": shape, "datatype": "FP32", "parameters": size}]}
    )


def v2_scores(content: bytes) -> np.ndarray:
    """The output of that name."""
    outputs = {output["name"]: output["data"] for output in orjson.loads(content)["outputs"]}
    return np.array(outputs["score"], dtype=np.float64).ravel()
