"""Constants of `manifest.json`, and checks for its fields.

A check is the metadata of a dataclass field, see `must`. The dataclasses in `detector.manifest` are read by
these checks, so that each field is declared once.
"""

import re
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

SCHEMA_VERSION = 4  # the version that this release writes
READABLE_SCHEMAS = (1, 2, 3, 4)
KINDS = ("vector", "image", "sequence")
LATENT_VERBS = ("encode", "decode")
CLASSIFY_VERB = "classify"
VERBS = ("score", "denoise", *LATENT_VERBS, CLASSIFY_VERB)
LARGEST_FLOAT32 = 3.4028234663852886e38
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
CONDITIONAL_PROMISE = "calibration-conditional"
NO_PROMISE = "none"
LAST_WINDOW = "last"
MEAN_OF_WINDOWS = "mean"
MERGE_RULES = (LAST_WINDOW, MEAN_OF_WINDOWS)
FROM_LATENT = "latent"
FROM_MEMORY = "memory"
REFUSED = "refuse"
MISSING_AS_MEDIAN = "median"
LEFT_OUT = "gaps"
INTERPOLATED = "interpolate"
MISSING_RULES = (REFUSED, MISSING_AS_MEDIAN, LEFT_OUT, INTERPOLATED)
GAP_RULES = (LEFT_OUT, INTERPOLATED)  # of series: a step whose window holds a missing value has no score
# Rules that a kind of samples may have.
MISSING_RULES_OF = {
    "vector": (REFUSED, MISSING_AS_MEDIAN),
    "image": (REFUSED,),
    "sequence": (REFUSED, *GAP_RULES),
}
OWN_CATEGORY = "own"
UNKNOWN_RULES = (OWN_CATEGORY, REFUSED)

Check = Mapping[str, Any]


def must(
    holds: Callable[[Any], bool], words: str, read: Callable[[Any, str], Any] = lambda value, where: value
) -> Check:
    """Make the metadata of a dataclass field.

    Parameters
    ----------
    holds : callable
        Whether a JSON value is allowed.
    words : str
        What the value must be, for error sentences.
    read : callable
        From the JSON value and its place in the manifest, for errors, to the value of the field.
    """
    return {"holds": holds, "words": words, "read": read, "since": 1}


def or_null(check: Check) -> Check:
    """Allow null as well."""
    return {
        **check,
        "holds": lambda value: value is None or check["holds"](value),
        "words": f"{check['words']} or null",
        "read": lambda value, where: None if value is None else check["read"](value, where),
    }


def since(schema: int, check: Check) -> Check:
    """Name the first schema version that has the field; fields of version 1 need not say so."""
    return {**check, "since": schema}


def one_of(*words: str) -> Check:
    """Allow some texts only."""
    return must(lambda value: value in words, "one of " + ", ".join(words))


def _is_int(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # a JSON integer may be larger than any float


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_different(value: Any, least: int = 0) -> bool:
    return _is_strings(value) and len(set(value)) == len(value) >= least


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_categories(value: Any) -> bool:
    """Whether it holds lists of different texts, or of numbers that differ as float32."""
    if not isinstance(value, dict) or not value:
        return False
    return all(
        isinstance(known, list)
        and known
        and (_is_strings(known) or (_is_numbers(known) and max(map(abs, known)) <= LARGEST_FLOAT32))
        and len({_as_float32(item) for item in known}) == len(known)
        for known in value.values()
    )


def _as_float32(value: str | float) -> Any:
    return value if isinstance(value, str) else struct.unpack("f", struct.pack("f", value))[0]


def _to_tuple(value: list[Any], where: str) -> tuple[Any, ...]:
    return tuple(value)


BOOLEAN = must(lambda value: isinstance(value, bool), "true or false")
TEXT = must(lambda value: isinstance(value, str), "text")
NAME = must(
    lambda value: isinstance(value, str) and NAME_PATTERN.fullmatch(value) is not None,
    f"a text that matches {NAME_PATTERN.pattern}",
)
DIGEST = must(
    lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
    "64 lower-case hex digits",
)
OBJECT = must(lambda value: isinstance(value, dict), "an object")
FRACTION = must(lambda value: _is_number(value) and 0 < value < 1, "a number between 0 and 1")
POSITIVE = must(lambda value: _is_number(value) and value > 0, "a positive number")
COUNT = must(lambda value: _is_int(value, 1), "a positive integer")
SIZE = must(_is_int, "an integer of at least 0")
COUNTS = must(
    lambda value: isinstance(value, dict) and all(_is_int(count, 1) for count in value.values()),
    "an object of positive integers",
)
SHAPE = must(
    lambda value: (
        isinstance(value, list) and 1 <= len(value) <= 4 and all(_is_int(size, 1) for size in value)
    ),
    "a list of 1 to 4 positive integers",
    _to_tuple,
)
RANGE = must(
    lambda value: _is_numbers(value) and len(value) == 2 and value[0] < value[1],
    "a list of two ascending numbers",
    _to_tuple,
)
HEIGHT_AND_WIDTH = must(
    lambda value: isinstance(value, list) and len(value) == 2 and all(_is_int(size, 1) for size in value),
    "a list of two positive integers",
    _to_tuple,
)
STRINGS = must(_is_strings, "a list of texts", _to_tuple)
SOME_VERBS = must(
    lambda value: _are_different(value) and set(value) <= set(VERBS),
    "a list of different words out of " + ", ".join(VERBS),
    _to_tuple,
)
CLASSES = must(
    lambda value: _are_different(value, least=2), "a list of at least two different texts", _to_tuple
)
NUMBERS = must(_is_numbers, "a list of numbers", _to_tuple)
POSITIVES = must(
    lambda value: _is_numbers(value) and all(number > 0 for number in value),
    "a list of positive numbers",
    _to_tuple,
)
CATEGORIES = must(
    _is_categories,
    "an object of lists, each of different texts or of different float32 numbers",
    lambda value, where: {name: tuple(items) for name, items in value.items()},
)
