"""The fields of `manifest.json`: what each must be, in every schema that is read."""

import re
import struct
import sys
from collections.abc import Callable
from typing import Any

SCHEMA_VERSION = 3  # what this release writes
READABLE_SCHEMAS = (1, 2, 3)
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
MISSING_RULES = (REFUSED, MISSING_AS_MEDIAN)
OWN_CATEGORY = "own"
UNKNOWN_RULES = (OWN_CATEGORY, REFUSED)
Check = tuple[Callable[[Any], bool], str]


def _is_int(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # JSON also holds integers that no float can


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 4 and all(_is_int(size, 1) for size in value)


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_categories(value: Any) -> bool:
    """Lists of different texts, or of different numbers that float32 can tell apart."""
    if not isinstance(value, dict) or not value:
        return False
    return all(
        isinstance(known, list)
        and known
        and (_is_strings(known) or (_is_numbers(known) and max(map(abs, known)) <= LARGEST_FLOAT32))
        and len({_as_float32(item) for item in known}) == len(known)
        for known in value.values()
    )


def _as_float32(value: str | float) -> str | float:
    return value if isinstance(value, str) else struct.unpack("f", struct.pack("f", value))[0]


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_int(count, 1) for count in value.values())


def _one_of(*words: str) -> Check:
    return (lambda value: value in words, "one of " + ", ".join(words))


def _or_null(check: Check) -> Check:
    return (lambda value: value is None or check[0](value), check[1] + " or null")


_TEXT: Check = (lambda value: isinstance(value, str), "text")
_OBJECT: Check = (lambda value: isinstance(value, dict), "an object")
_FRACTION: Check = (lambda value: _is_number(value) and 0 < value < 1, "a number between 0 and 1")
_POSITIVE: Check = (lambda value: _is_number(value) and value > 0, "a positive number")
_COUNT: Check = (lambda value: _is_int(value, 1), "a positive integer")
_SIZE: Check = (lambda value: _is_int(value), "an integer of at least 0")
_SHAPE: Check = (_is_shape, "a list of 1 to 4 positive integers")
_STRINGS: Check = (_is_strings, "a list of texts")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_FIELDS: dict[str, Check] = {
    "schema_version": _COUNT,
    "name": (
        lambda value: isinstance(value, str) and NAME_PATTERN.fullmatch(value) is not None,
        f"a text that matches {NAME_PATTERN.pattern}",
    ),
    "version": _COUNT,
    "kind": _one_of(*KINDS),
    "created_at": _TEXT,
    "verbs": (
        lambda value: _is_strings(value) and len(set(value)) == len(value) and set(value) <= set(VERBS),
        "a list of different words out of " + ", ".join(VERBS),
    ),
    "sample_shape": _SHAPE,
    "dtype": _one_of("float32"),
    "value_range": _or_null((_is_range, "a list of two ascending numbers")),
    "feature_names": _or_null(_STRINGS),
    "units": _or_null(_STRINGS),
    "window": _or_null(_COUNT),
    "stride": _or_null(_COUNT),
    "latent_shape": _or_null(_SHAPE),
    "score": _TEXT,
    "architecture": _OBJECT,
    "training": _OBJECT,
    "data": _OBJECT,
    "threshold": _OBJECT,
    "evaluation": _OBJECT,
    "self_test_tolerance": _FRACTION,
    "tools": _OBJECT,
    "files": (
        lambda value: isinstance(value, dict) and all(map(_FILE_NAME.fullmatch, value)),
        "an object whose keys are plain file names",
    ),
    "merge": _or_null(_one_of(*MERGE_RULES)),
    "latent_int8": _or_null(_OBJECT),
    "classifier": _or_null(_OBJECT),
    "reconstruction": _one_of(FROM_LATENT, FROM_MEMORY),
    "missing": _one_of(*MISSING_RULES),
    "categories": _or_null(
        (_is_categories, "an object of lists, each of different texts or of different float32 numbers")
    ),
    "unknown_category": _or_null(_one_of(*UNKNOWN_RULES)),
}

# Of the later fields.
FIRST_SCHEMA = dict.fromkeys(("merge", "latent_int8", "classifier"), 2)

THRESHOLD_FIELDS: dict[str, Check] = {
    "value": _POSITIVE,
    "alpha": _FRACTION,
    "promise": _one_of(CONDITIONAL_PROMISE, NO_PROMISE),
    "confidence": _or_null(_FRACTION),
    "rank": _COUNT,
    "n_calibration": _COUNT,
    "expected_rate": _FRACTION,
}

LATENT_INT8_FIELDS: dict[str, Check] = {
    "offset": (_is_numbers, "a list of numbers"),
    "scale": (
        lambda value: _is_numbers(value) and all(scale > 0 for scale in value),
        "a list of positive numbers",
    ),
}

CLASSIFIER_FIELDS: dict[str, Check] = {
    "classes": (
        lambda value: _is_strings(value) and len(set(value)) == len(value) >= 2,
        "a list of at least two different texts",
    ),
    "temperature": _POSITIVE,
    "n_labelled": (_is_counts, "an object of positive integers"),
    "training": _OBJECT,
    "evaluation": _OBJECT,
}

FILE_FIELDS: dict[str, Check] = {
    "sha256": (
        lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
        "64 lower-case hex digits",
    ),
    "size": _SIZE,
}


def fields_of(schema: int) -> dict[str, Check]:
    """The fields of a manifest of this schema version."""
    return {name: check for name, check in _FIELDS.items() if schema >= FIRST_SCHEMA.get(name, 1)}
