"""Media types: which reads a request body, which form an answer has; and the options of a query."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import orjson
from werkzeug.http import parse_accept_header, parse_options_header

from service.array_bodies import decode_npy, decode_raw
from service.bodies import (
    ARROW,
    CSV,
    JPEG,
    JSON,
    MULTIPART,
    NPY,
    OPTIONS,
    PARQUET,
    PNG,
    RAW,
    Decoded,
    Expected,
    Limits,
    lacks_pyarrow,
)
from service.json_bodies import decode_json
from service.picture_bodies import decode_pictures, split_parts
from service.problems import Problem
from service.tabular_bodies import decode_csv


@dataclasses.dataclass(frozen=True)
class Body:
    """A request body and what it may be; `parameters` are those of its content type."""

    content: bytes
    content_type: str
    parameters: Mapping[str, str]
    expected: Expected
    limits: Limits
    options: tuple[str, ...]


def _one_picture(body: Body) -> Decoded:
    return Decoded(decode_pictures([body.content], body.expected, body.limits))


def _many_pictures(body: Body) -> Decoded:
    files = split_parts(body.content, body.parameters.get("boundary", ""), body.limits)
    return Decoded(decode_pictures(files, body.expected, body.limits))


def _arrow(body: Body) -> Decoded:
    from service.arrow_bodies import decode_arrow

    return decode_arrow(body.content, body.expected, body.limits)


def _parquet(body: Body) -> Decoded:
    from service.arrow_bodies import decode_parquet

    return decode_parquet(body.content, body.expected, body.limits)


# Every form of body and what reads it; `Expected.media_types` says which of them a model takes.
DECODERS: Mapping[str, Callable[[Body], Decoded]] = {
    JSON: lambda body: decode_json(body.content, body.expected, body.limits, body.options),
    NPY: lambda body: Decoded(decode_npy(body.content, body.limits)),
    CSV: lambda body: decode_csv(body.content, body.parameters, body.expected, body.limits),
    RAW: lambda body: Decoded(decode_raw(body.content, body.content_type, body.expected, body.limits)),
    ARROW: _arrow,
    PARQUET: _parquet,
    PNG: _one_picture,
    JPEG: _one_picture,
    MULTIPART: _many_pictures,
}


def decode_body(
    content_type: str, content: bytes, expected: Expected, limits: Limits, *, options: tuple[str, ...]
) -> Decoded:
    """Read a request body.

    Parameters
    ----------
    content_type : str
        The header's value.
    content : bytes
    expected : Expected
    limits : Limits
    options : tuple of str
        Names of the options that a JSON body may hold, out of `OPTIONS`.

    Raises
    ------
    Problem
        Saying what the body must be, what it is, and where.
    InputError
        If a picture does not fit the model.
    """
    media_type, parameters = _parse_content_type(content_type)
    if media_type not in expected.media_types():
        raise _unread(media_type, expected)
    if not content:
        raise Problem("malformed-body", "the body is empty")
    return DECODERS[media_type](Body(content, content_type, parameters, expected, limits, options))


def _unread(media_type: str, expected: Expected) -> Problem:
    hint = "; that one needs the extra arrow, which is not installed here"
    return Problem(
        "unsupported-media-type",
        f"the Content-Type must be one of {', '.join(expected.media_types())} here, "
        f"got {repr(media_type[:80]) if media_type else 'none'}{hint * lacks_pyarrow(media_type)}",
    )


@functools.lru_cache(maxsize=256)
def _parse_content_type(content_type: str) -> tuple[str, Mapping[str, str]]:
    media_type, parameters = parse_options_header(content_type)
    return media_type.lower(), parameters


# --- options in the query -----------------------------------------------------------------------------------


def decode_query(query: Mapping[str, Sequence[str]], *, options: tuple[str, ...]) -> dict[str, Any]:
    """The options of a query string.

    Parameters
    ----------
    query : mapping of str to list of str
        Every value of every parameter.
    options : tuple of str
        Names of those that are known here, out of `OPTIONS`.

    Raises
    ------
    Problem
        If a parameter is unknown, given twice, or not of its type.
    """
    return {name: _read_option(name, values, options) for name, values in query.items()}


def _read_option(name: str, values: Sequence[str], known: Collection[str]) -> Any:
    if name not in known:
        words = f"only {', '.join(known)} are known" if known else "none is known here"
        raise bad_option(name, f"the option {name[:80]!r} is unknown, {words}")
    if len(values) != 1:
        raise bad_option(name, f"the option {name} must be given once, got {len(values)} values")
    form, words = OPTIONS[name]
    try:
        return msgspec.convert(_number_or_text(values[0]), form)
    except msgspec.ValidationError as error:
        raise bad_option(name, f"the option {name} must be {words}, got {values[0][:80]!r}") from error


def _number_or_text(text: str) -> float | int | str:
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return text


def merge_options(query: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the query and of the body together.

    Raises
    ------
    Problem
        If one stands in both.
    """
    if not body:
        return dict(query)
    for name in query.keys() & body.keys():
        raise bad_option(name, f"the option {name} must be given once, got it in the query and in the body")
    return {**query, **body}


def bad_option(name: str, sentence: str) -> Problem:
    """The problem of one option."""
    return Problem("invalid-option", sentence, [{"detail": sentence, "parameter": name[:80]}])


# --- answers ------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def negotiate(accept: str, offers: tuple[str, ...]) -> str:
    """The offered media type that an Accept header likes best; the first one where it has no preference.

    Raises
    ------
    Problem
        If it accepts none of them.

    References
    ----------
    RFC 9110, section 12.5.1: the most specific range that matches an offer decides its quality.
    """
    ranges = {value.partition(";")[0].strip(): quality for value, quality in parse_accept_header(accept)}
    if not ranges:
        return offers[0]

    def quality(offer: str) -> float:
        for candidate in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
            if candidate in ranges:
                return ranges[candidate]
        return 0.0

    best = max(offers, key=quality)
    if quality(best) <= 0:
        raise Problem(
            "not-acceptable",
            f"this answer comes as {', '.join(offers)}, the Accept header is {accept[:200]!r}",
        )
    return best


def to_json(document: Any) -> bytes:
    """JSON, arrays included; float32 values with as many digits as a float32 has."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
