"""How a file, a table or an image became samples: decided by the fit, repeated by every later reader.

`training.evaluate`, `residual score`, the bodies that the service reads and data frames follow the `Reading`
in the manifest, so that the same file gives the same samples everywhere.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Self

from detector import schema
from detector.columns import MISSING_VALUES
from detector.schema import or_null


@dataclasses.dataclass(frozen=True)
class Reading:
    """Decisions about the source of the samples.

    Attributes
    ----------
    missing_values : tuple of str
        Texts of a missing cell, without blanks at either end.
    delimiter, encoding : str or None
        Of a text file; None if the data came from elsewhere.
    decimal, thousands : str or None
        Marks in the numbers of a text file; `thousands` is None if there is none.
    skip_rows : int
        Lines of a text file above its header.
    header : bool
        Whether a text file names its columns; else they are `x0`, `x1` and so on.
    unit_rows : int
        Rows of a text file between its header and its data, such as units.
    time_format, time_zone : str or None
        Of a time column: a format of `strptime`, or one of `s`, `ms`, `us` and `ns` since 1970, and the name
        of the zone of times that have none; None if no format is needed, and for UTC.
    ignored : tuple of str
        Columns of the table that are no features, the label, time and entity among them; a table to score
        may have or lack them.
    max_gap : int or None
        Missing values in a row that are interpolated in a channel of a series; None if none are.
    resize : tuple of int, or None
        Height and width that images of any other size are brought to.
    """

    missing_values: tuple[str, ...] = field(default=MISSING_VALUES, metadata=schema.STRINGS)
    delimiter: str | None = field(default=None, metadata=or_null(schema.TEXT))
    encoding: str | None = field(default=None, metadata=or_null(schema.TEXT))
    decimal: str = field(default=".", metadata=schema.TEXT)
    thousands: str | None = field(default=None, metadata=or_null(schema.TEXT))
    skip_rows: int = field(default=0, metadata=schema.SIZE)
    header: bool = field(default=True, metadata=schema.BOOLEAN)
    unit_rows: int = field(default=0, metadata=schema.SIZE)
    time_format: str | None = field(default=None, metadata=or_null(schema.TEXT))
    time_zone: str | None = field(default=None, metadata=or_null(schema.TEXT))
    ignored: tuple[str, ...] = field(default=(), metadata=schema.STRINGS)
    max_gap: int | None = field(default=None, metadata=or_null(schema.COUNT))
    resize: tuple[int, int] | None = field(default=None, metadata=or_null(schema.HEIGHT_AND_WIDTH))

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> Self:
        """Return the reading of a manifest that came as JSON; the defaults if it has none."""
        fields: dict[str, Any] = {}
        for each in dataclasses.fields(cls):
            if each.name in (document or {}):
                value = (document or {})[each.name]
                fields[each.name] = tuple(value) if isinstance(value, list) else value
        return cls(**fields)
