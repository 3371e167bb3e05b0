"""Compare the columns of a table with those wanted, and list names in a sentence.

Pure Python, shared by everything that reads tables: data frames (`detector.tables`), files to train on
(`training.data.tables`), request bodies (`service.bodies.tables`), files to score (`residual_client.chunks`).
"""

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

MOST_NAMES = 8  # in a sentence
NAME_CHARACTERS = 80

# Texts that count as a missing cell: the defaults of pandas.
MISSING_VALUES = (
    *("", "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    *("-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "-NaN", "-nan"),
)


@dataclasses.dataclass(frozen=True)
class ColumnFaults:
    """How the columns of a table differ from those wanted. As text, `lacks 'c' and has the unknown 'd'`.

    Attributes
    ----------
    missing, unknown, repeated : tuple of str
        All empty where the columns match.
    """

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    repeated: tuple[str, ...]

    def __str__(self) -> str:
        parts = {"lacks": self.missing, "has the unknown": self.unknown, "has more than once": self.repeated}
        return " and ".join(f"{verb} {listed(names)}" for verb, names in parts.items() if names)


def compare_columns(
    found: Sequence[str], wanted: Collection[str], optional: Collection[str] = ()
) -> ColumnFaults:
    """Compare the columns of a table, in any order, with those wanted.

    Parameters
    ----------
    found : sequence of str
        The column names of the table.
    wanted : collection of str
        Each must be there exactly once.
    optional : collection of str
        These may be there as well.
    """
    present, known = set(found), {*wanted, *optional}
    return ColumnFaults(
        missing=tuple(name for name in wanted if name not in present),
        unknown=tuple(name for name in dict.fromkeys(found) if name not in known),
        repeated=repeated_names(found),
    )


def clean_name(name: object) -> str:
    """Return a name as names are compared: without blanks at its ends, its characters composed (NFC)."""
    return unicodedata.normalize("NFC", str(name).strip())


def spelled(found: Iterable[object], wanted: Iterable[str]) -> list[str]:
    """Return found names, each as the wanted name that it equals once both are clean."""
    exact = set(wanted)
    by_clean = {clean_name(name): name for name in exact}
    return [name if name in exact else by_clean.get(clean_name(name), name) for name in map(str, found)]


def repeated_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that occur more than once, in order of their first occurrence."""
    return tuple(name for name, times in Counter(names).items() if times > 1)


def listed(names: Iterable[object], most: int = MOST_NAMES, *, quoted: bool = True) -> str:
    """Name the first few, cut at `NAME_CHARACTERS`, and count the rest: `'a', 'b' and 3 more`."""
    shown = [str(name)[:NAME_CHARACTERS] for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(map(repr, shown[:most]) if quoted else shown[:most]) + more
