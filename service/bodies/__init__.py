"""What a request body may hold, and what it held: the vocabulary of `codecs` and of all that read bodies."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from detector import Manifest
from detector.latents import DTYPES
from detector.tables import holds_cells, text_columns
from service.http.problems import Problem

JSON = "application/json"
NPY = "application/x-npy"
RAW = "application/octet-stream"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
PNG = "image/png"
JPEG = "image/jpeg"
MULTIPART = "multipart/form-data"
IMAGES = (PNG, JPEG, MULTIPART)

# Looked for, not imported: it is needed where such a body comes, which may be never.
HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None

INSTANCES = "instances"
TIMESTAMPS = "timestamps"
TIMESTAMP = "timestamp"  # the column, of which each step has one

_Rate = Annotated[float, msgspec.Meta(gt=0, lt=1)]
# The options of verbs, the same in a query and in a JSON body: type, and the words for it.
OPTIONS: Mapping[str, tuple[Any, str]] = {
    "alpha": (_Rate, "a number between 0 and 1"),
    "fdr": (_Rate, "a number between 0 and 1"),
    "explain": (Annotated[int, msgspec.Meta(ge=1)] | Literal["map"], "a positive integer or map"),
    "dtype": (Literal[DTYPES], "one of " + ", ".join(DTYPES)),
    "signature_name": (Literal["serving_default", ""], "serving_default"),
}

Timestamp = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float


@dataclasses.dataclass(frozen=True)
class Expected:
    """What one instance of a body must be.

    Attributes
    ----------
    shape : tuple of int
    feature_names : tuple of str, or None
        Names by which a row, or a step of a sequence, may be an object.
    value_range : tuple of float, or None
        Raw values of black and white; None where images are not read.
    series : bool
        Whether the instances may be the steps of a series instead of windows of `shape`.
    timestamps : bool
        Whether a series may come with time stamps.
    rows : bool
        Whether an instance is a row of a table, which another model may take with words and gaps in it.
    cells : bool
        Whether a row may hold text, booleans and null beside numbers.
    texts : frozenset of str
        Names of the features that are categories by text.
    """

    shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None = None
    value_range: tuple[float, float] | None = None
    series: bool = False
    timestamps: bool = False
    rows: bool = False
    cells: bool = False
    texts: frozenset[str] = frozenset()

    @classmethod
    def samples(cls, manifest: Manifest, *, timestamps: bool = False) -> "Expected":
        """Samples of a model; `timestamps` where its answer has a place for them."""
        series = manifest.kind == "sequence"
        return cls(
            manifest.sample_shape,
            manifest.feature_names,
            manifest.value_range if manifest.kind == "image" else None,
            series,
            series and timestamps,
            rows=manifest.kind == "vector",
            cells=holds_cells(manifest),
            texts=text_columns(manifest),
        )

    @classmethod
    def latent(cls, shape: tuple[int, ...]) -> "Expected":
        """Latent vectors."""
        return cls(shape)

    def columns(self) -> Sequence[str] | None:
        """Names of a table's columns, in order; None where instances are neither rows nor steps."""
        if len(self.shape) > 1 and not self.series:
            return None
        return column_names(self.feature_names, self.shape)

    def media_types(self) -> tuple[str, ...]:
        """Forms of body that are read, the first the one to recommend."""
        tables = () if self.columns() is None else table_forms()
        images = () if self.value_range is None else IMAGES
        return (JSON, NPY, RAW, *tables, *images)


def table_forms() -> tuple[str, ...]:
    """Forms of tables, for bodies and answers: those that this process can read and write."""
    return tuple(form for form in (CSV, ARROW, PARQUET) if not lacks_pyarrow(form))


def may_inflate(headers: Mapping[str, str]) -> bool:
    """Whether a body may become far more than its bytes; headers by name in lower case.

    An image of 60 KB may hold texts of 50 MB, which are inflated before a pixel is.
    """
    return "content-encoding" in headers or headers.get("content-type", "").lower().startswith(
        (ARROW, PARQUET, *IMAGES)
    )


def lacks_pyarrow(media_type: str) -> bool:
    """Whether it is read and written by pyarrow, which is not installed."""
    return media_type in (ARROW, PARQUET) and not HAS_PYARROW


def column_names(feature_names: Sequence[str] | None, shape: Sequence[int]) -> Sequence[str]:
    """Names of a table's columns: of the features, or where they have none their positions."""
    return feature_names or _positions(shape[-1])


@functools.lru_cache(maxsize=64)
def _positions(n_columns: int) -> tuple[str, ...]:
    return tuple(map(str, range(n_columns)))


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that one body may hold.

    Attributes
    ----------
    max_rows : int
        Samples, or steps of a series.
    max_bytes : int
        Of the pixels of its images, one byte a value; of what it inflates to.
    """

    max_rows: int
    max_bytes: int


@dataclasses.dataclass(slots=True)
class Decoded:
    """A body's content.

    Attributes
    ----------
    samples : ndarray of any real dtype, or of dtype object where rows may hold more than numbers
        Not yet held against the model's shape.
    options : mapping
        Members beside `instances` and `timestamps`.
    point : callable or None
        Index within the samples to a JSON pointer into the body; None where the body is not JSON.
    timestamps : list of str, int or float, or None
        Of the steps of a series, in order.
    """

    samples: np.ndarray
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    point: Callable[[tuple[int, ...]], str] | None = None
    timestamps: list[Timestamp] | None = None


def misplaced(sentence: str, **place: str | int) -> Problem:
    """Return the problem of one value; `place` has `pointer`, `row` or `column`."""
    return Problem("invalid-input", sentence, [{"detail": sentence, **place}])


def check_rows(rows: int, limits: Limits) -> None:
    """Refuse a body with more samples, or steps of a series, than may be.

    Raises
    ------
    Problem
        With both numbers.
    """
    if rows > limits.max_rows:
        raise Problem("too-many-rows", f"a body may hold {limits.max_rows} samples, got {rows}")
