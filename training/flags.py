"""Parse the text of a flag; a value that is not allowed raises argparse's error with a sentence."""

import argparse
import csv
import math


def names(text: str) -> list[str]:
    """`A,B,C` as a list, read as a line of CSV: a name may be quoted, and then have commas."""
    try:
        (found,) = csv.reader([text], strict=True, skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise argparse.ArgumentTypeError(f"must be names separated by commas, got {text!r}") from error
    return [name.strip() for name in found] or [""]


def delimiter(text: str) -> str:
    """One character, or the word `tab`, `blank` or `space`."""
    return mark({"tab": "\t", "\\t": "\t", "blank": " ", "space": " "}.get(text, text))


def mark(text: str) -> str:
    """One character."""
    if len(text) != 1:
        raise argparse.ArgumentTypeError(f"must be one character, got {text!r}")
    return text


def size(text: str) -> int:
    """An integer of at least 0."""
    return _integer(text, 0, "an integer of at least 0")


def integers(text: str) -> list[int]:
    """`2,8,32` as a list."""
    try:
        return list(map(int, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be integers separated by commas, got {text!r}") from error


def numbers(text: str) -> list[float]:
    """`0,0.3` as a list."""
    try:
        return list(map(float, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be numbers separated by commas, got {text!r}") from error


def image_shape(text: str) -> tuple[int, ...]:
    """`28,28` or `32,32,3`."""
    shape = tuple(integers(text))
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"must be H,W or H,W,3, got {text!r}")
    return shape


def widths(text: str) -> tuple[int, ...]:
    """`64,32`, or `none` for no layer."""
    return () if text == "none" else tuple(integers(text))


def value_range(text: str) -> tuple[float, float]:
    """`LOW,HIGH` as two numbers."""
    try:
        low, high = text.split(",")
        return float(low), float(high)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be LOW,HIGH, two numbers, got {text!r}") from error


def height_and_width(text: str) -> tuple[int, int]:
    """`H,W` as two positive integers."""
    try:
        height, width = map(int, text.split(","))
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise argparse.ArgumentTypeError(f"must be H,W, two positive integers, got {text!r}")
    return height, width


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return value


def count(text: str) -> int:
    """An integer of at least 1."""
    return _integer(text, 1, "a positive integer")


def seed(text: str) -> int:
    """An integer that every generator takes."""
    return _integer(text, 0, "an integer of at least 0 and below 2**32")


def _integer(text: str, least: int, words: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not least <= value < 2**32:
        raise argparse.ArgumentTypeError(f"must be {words}, got {text!r}")
    return value
