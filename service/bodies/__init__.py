"""Types that describe request bodies: the requirements of a model (`Expected`), the content (`Decoded`)."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from detector import Manifest
from detector.latents import DTYPES
from detector.reading import Reading
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
BMP = "image/bmp"
TIFF = "image/tiff"
WEBP = "image/webp"
MULTIPART = "multipart/form-data"
ONE_IMAGE = (PNG, JPEG, BMP, TIFF, WEBP)
IMAGES = (*ONE_IMAGE, MULTIPART)

# Only searched for: importing pyarrow takes time and memory, and many services never need it.
HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None

INSTANCES = "instances"
TIMESTAMPS = "timestamps"
TIMESTAMP = "timestamp"  # name of the column in tables and answers

_Rate = Annotated[float, msgspec.Meta(gt=0, lt=1)]
# Options of verbs, in a query or in a JSON body: the type of each, and its description in errors.
OPTIONS: Mapping[str, tuple[Any, str]] = {
    "alpha": (_Rate, "a number between 0 and 1"),
    "fdr": (_Rate, "a number between 0 and 1"),
    "explain": (Annotated[int, msgspec.Meta(ge=1)] | Literal["map"], "a positive integer or map"),
    "dtype": (Literal[DTYPES], "one of " + ", ".join(DTYPES)),
    "signature_name": (Literal["serving_default", ""], "serving_default"),
}

Instances = list[Any] | np.ndarray
Timestamp = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float


@dataclasses.dataclass(frozen=True)
class Expected:
    """Requirements for the bodies of one model and verb.

    Attributes
    ----------
    shape : tuple of int
        Shape of one instance.
    feature_names : tuple of str, or None
        Member names of a row, or of a step of a sequence, that comes as an object.
    value_range : tuple of float, or None
        Raw values of black and white; None if images are not accepted.
    resize : tuple of int, or None
        Height and width that images of any other size are brought to; None if such images are refused.
    series : bool
        Whether the instances may be the steps of a series instead of windows of `shape`.
    timestamps : bool
        Whether a series may have time stamps.
    rows : bool
        Whether an instance is a row of a table; errors then hint at options for text and missing values.
    cells : bool
        Whether a row may hold text, booleans and null in addition to numbers.
    texts : frozenset of str
        Names of the features that are categories by text.
    reading : Reading
        How the data of the model were written, and the columns that a table may have besides the features.
    """

    shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None = None
    value_range: tuple[float, float] | None = None
    resize: tuple[int, int] | None = None
    series: bool = False
    timestamps: bool = False
    rows: bool = False
    cells: bool = False
    texts: frozenset[str] = frozenset()
    reading: Reading = dataclasses.field(default_factory=Reading)

    @classmethod
    def samples(cls, manifest: Manifest, *, timestamps: bool = False) -> "Expected":
        """Describe samples of a model; `timestamps` if its answer can return them."""
        series = manifest.kind == "sequence"
        return cls(
            manifest.sample_shape,
            manifest.feature_names,
            manifest.value_range if manifest.kind == "image" else None,
            manifest.reading.resize,
            series,
            series and timestamps,
            rows=manifest.kind == "vector",
            cells=holds_cells(manifest),
            texts=text_columns(manifest.categories),
            reading=manifest.reading,
        )

    @classmethod
    def latent(cls, shape: tuple[int, ...]) -> "Expected":
        """Describe latent vectors."""
        return cls(shape)

    @property
    def dtype(self) -> type:
        """The dtype of the samples: object if rows may hold text."""
        return object if self.cells else np.float64

    def rank_of(self, opening: bytes) -> int:
        """Return the number of axes of an instance if the instances of JSON begin with these brackets."""
        if not self.series:
            return len(self.shape)
        n_axes = opening.count(b"[") + opening.count(b"{")  # an object has the channels of a step
        return min(max(n_axes - 1, 0 if self.shape[-1] == 1 else 1), 2)

    def instance_shape(self, instances: Instances, rank: int) -> tuple[int, ...]:
        """Return the shape that instances of this rank must have: of a sample, or of a step of a series."""
        if rank == len(self.shape):
            return self.shape
        window, n_channels = self.shape if self.series else (0, 0)
        if rank == 1 and n_channels == 1 and len(instances) and len(instances[0]) != 1:
            return (window,)  # windows of a single channel, without its axis
        return (n_channels,)[:rank]

    def columns(self) -> Sequence[str]:
        """Return the columns of a table, in order; none if instances are neither rows nor steps."""
        if len(self.shape) > 1 and not self.series:
            return ()
        return column_names(self.feature_names, self.shape)

    def media_types(self) -> tuple[str, ...]:
        """Return the media types that are accepted, the recommended one first."""
        tables = table_forms() if self.columns() else ()
        images = () if self.value_range is None else IMAGES
        return (JSON, NPY, RAW, *tables, *images)


def table_forms() -> tuple[str, ...]:
    """Return the media types of tables that this process can read and write."""
    return tuple(form for form in (CSV, ARROW, PARQUET) if not lacks_pyarrow(form))


def may_inflate(headers: Mapping[str, str]) -> bool:
    """Tell whether a body may need far more memory than its bytes; header names are in lower case.

    An image of 60 KB may hold texts of 50 MB, and they are inflated before the pixels.
    """
    return "content-encoding" in headers or headers.get("content-type", "").lower().startswith(
        (ARROW, PARQUET, *IMAGES)
    )


def needs_pyarrow(headers: Mapping[str, str]) -> bool:
    """Tell whether a request has a body, or asks for an answer, in a format of pyarrow's."""
    named = f"{headers.get('content-type')} {headers.get('accept')}".lower()
    return HAS_PYARROW and (ARROW in named or PARQUET in named)


def lacks_pyarrow(media_type: str) -> bool:
    """Tell whether a media type needs pyarrow and pyarrow is not installed."""
    return media_type in (ARROW, PARQUET) and not HAS_PYARROW


def column_names(feature_names: Sequence[str] | None, shape: Sequence[int]) -> Sequence[str]:
    """Return the names of the features, or their positions as text if they have no names."""
    return feature_names or _positions(shape[-1])


@functools.lru_cache(maxsize=64)
def _positions(n_columns: int) -> tuple[str, ...]:
    return tuple(map(str, range(n_columns)))


@dataclasses.dataclass(frozen=True)
class Limits:
    """Upper limits for one body.

    Attributes
    ----------
    max_rows : int
        Samples, or steps of a series.
    max_bytes : int
        Size after decompression, and size of the pixels of its images, one byte a value.
    """

    max_rows: int
    max_bytes: int


@dataclasses.dataclass(slots=True)
class Decoded:
    """The content of a body.

    Attributes
    ----------
    samples : ndarray of any real dtype, or of dtype object if rows may hold more than numbers
        The shape is not checked yet.
    options : mapping
        Options given in the body.
    point : callable or None
        Converts an index within the samples to a JSON pointer; None if the body is not JSON.
    timestamps : list of str, int or float, or None
        One for each step of a series, in order.
    """

    samples: np.ndarray
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    point: Callable[[tuple[int, ...]], str] | None = None
    timestamps: list[Timestamp] | None = None


def misplaced(sentence: str, **place: str | int) -> Problem:
    """Return the problem of one value; `place` has `pointer`, `row` or `column`."""
    return Problem("invalid-input", sentence, [{"detail": sentence, **place}])


def check_rows(rows: int, limits: Limits) -> None:
    """Refuse a body with too many samples, or too many steps of a series.

    Raise `Problem` if there are more rows than `limits.max_rows`.
    """
    if rows > limits.max_rows:
        raise Problem("too-many-rows", f"a body may hold at most {limits.max_rows} samples, got {rows}")
