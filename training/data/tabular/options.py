"""What the user says about the files of a table."""

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """What of a table is settled before it is opened; the files tell the rest.

    Attributes
    ----------
    given : collection of str
        Fields of the `Reading` that the user gave, and that no file changes.
    ignore : tuple of str
        Columns that are no features.
    shape : tuple of int, or None
        Shape of the image that each row holds, (height, width) or (height, width, 3), its pixels row by row.
    for_model : bool
        Whether the table is for a published model, whose `Reading` then comes first.
    """

    given: Collection[str] = ()
    ignore: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    for_model: bool = False
