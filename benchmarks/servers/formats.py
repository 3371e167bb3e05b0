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
    """

    path: str
    content_type: str
    name: str
    encode: Callable[[np.ndarray], bytes]
    scores: Callable[[bytes], np.ndarray]

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
