"""Choose the reader of a request body and the media type of an answer; read the options of a query."""

import contextlib
import dataclasses
import functools
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

import msgspec
import orjson
from werkzeug.http import parse_options_header

from service.bodies import (
    ARROW,
    CSV,
    JSON,
    MULTIPART,
    NDJSON,
    NPY,
    ONE_IMAGE,
    OPTIONS,
    PARQUET,
    RAW,
    Decoded,
    Expected,
    Limits,
    lacks_pyarrow,
)
from service.bodies.arrays import decode_npy, decode_raw
from service.bodies.images import decode_images, split_parts
from service.bodies.json.instances import decode_json
from service.bodies.tables import decode_csv
from service.http.messages import Body
from service.http.problems import Problem


@dataclasses.dataclass(frozen=True)
class BodyFormat:
    """The content type of a body with its parameters, and the content that it allows."""

    content_type: str
    parameters: Mapping[str, str]
    expected: Expected
    limits: Limits


def _one_image(content: Body, form: BodyFormat) -> Decoded:
    return Decoded(decode_images([content], form.expected, form.limits))


def _many_images(content: Body, form: BodyFormat) -> Decoded:
    files = split_parts(content, form.parameters.get("boundary", ""), form.limits)
    return Decoded(decode_images(files, form.expected, form.limits))


def _columnar() -> ModuleType:
    from service.bodies.columnar import arrow  # late: pyarrow takes time and memory

    return arrow


# Every media type and its reader, JSON aside; `Expected.media_types` lists the ones that a model accepts.
DECODERS: Mapping[str, Callable[[Body, BodyFormat], Decoded]] = {
    NPY: lambda content, form: Decoded(decode_npy(content, form.limits)),
    CSV: lambda content, form: decode_csv(content, form.parameters, form.expected, form.limits),
    RAW: lambda content, form: Decoded(decode_raw(content, form.content_type, form.expected, form.limits)),
    ARROW: lambda content, form: _columnar().decode_arrow(content, form.expected, form.limits),
    PARQUET: lambda content, form: _columnar().decode_parquet(content, form.expected, form.limits),
    **dict.fromkeys(ONE_IMAGE, _one_image),
    MULTIPART: _many_images,
}


def decoder(
    content_type: str, expected: Expected, limits: Limits, *, options: tuple[str, ...]
) -> Callable[[Body], Decoded]:
    """Return the function that reads request bodies of a content type.

    Parameters
    ----------
    content_type : str
        Value of the header.
    expected : Expected
    limits : Limits
    options : tuple of str
        Names of the options, from `OPTIONS`, that a JSON body may hold.

    Raises
    ------
    Problem
        If the content type is not accepted. The returned function raises one if the body is invalid, with
        the place of the fault, and InputError if an image does not fit the model.
    """
    media_type, parameters = parse_options_header(content_type)
    media_type = media_type.lower()
    if media_type not in expected.media_types():
        raise _unread(media_type, expected)
    if media_type == JSON:  # most bodies: without a layer
        return functools.partial(decode_json, expected=expected, limits=limits, options=options)
    form, read = BodyFormat(content_type, parameters, expected, limits), DECODERS[media_type]

    def decode(content: Body) -> Decoded:
        if not content:
            raise Problem("malformed-body", "the body is empty")
        return read(content, form)

    return decode


def media_type_of(headers: Mapping[str, str]) -> str:
    """Return the media type of a body from the headers."""
    return parse_options_header(headers.get("content-type", ""))[0].lower()


FORM = "application/x-www-form-urlencoded"
_FORM_HINT = (
    ", which curl sends with -d: name the type of the body with -H 'Content-Type: ...', and send a file with "
    "--data-binary @FILE, since -d removes its line ends"
)


def _unread(media_type: str, expected: Expected) -> Problem:
    hint = "; it needs the extra arrow, which is not installed here" * lacks_pyarrow(media_type)
    if media_type == FORM:
        hint = _FORM_HINT
    forms = (*expected.media_types(), NDJSON)  # lines are read without a decoder
    return Problem(
        "unsupported-media-type",
        f"the Content-Type must be one of {', '.join(forms)} here, "
        f"got {repr(media_type[:80]) if media_type else 'none'}{hint}",
    )


# --- options in the query -----------------------------------------------------------------------------------


def decode_query(query: Mapping[str, Sequence[str]], *, options: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of a query string, given as all values of each parameter.

    Raise `Problem` if a parameter is not one of the accepted `options`, given twice, or of another type.
    """
    return {name: _read_option(name, values, options) for name, values in query.items()}


def _read_option(name: str, values: Sequence[str], known: Collection[str]) -> Any:
    if name not in known:
        words = f"only {', '.join(known)} are known" if known else "no option is accepted here"
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
    """Merge the options of the query and of the body; raise `Problem` if an option is in both."""
    if not body:
        return dict(query)
    for name in query.keys() & body.keys():
        raise bad_option(name, f"the option {name} must be given once, got it in the query and in the body")
    return {**query, **body}


def bad_option(name: str, sentence: str) -> Problem:
    """Return the problem of one option."""
    return Problem("invalid-option", sentence, [{"detail": sentence, "parameter": name[:80]}])


# --- answers ------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def negotiate(accept: str, offers: tuple[str, ...]) -> str:
    """Return the offered media type that an Accept header prefers, by default the first one.

    Raises
    ------
    Problem
        If the header accepts none of them.

    References
    ----------
    RFC 9110, section 12.5.1: the most specific range that matches an offer decides its quality.
    """
    ranges = dict(map(_media_range, urllib.request.parse_http_list(accept)))
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
            f"the response can be one of {', '.join(offers)}, the Accept header is {accept[:200]!r}",
        )
    return best


def _media_range(text: str) -> tuple[str, float]:
    """Return a media range in lower case, with its quality; 1 if that is not a number.

    Werkzeug would drop a range with the quality `.2`, and take `*` for a type: older JDKs send both.
    """
    media_range, parameters = parse_options_header(text)
    media_range = media_range.lower()
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 1.0
    return "*/*" if media_range == "*" else media_range, quality


def to_json(document: Any) -> bytes:
    """Return a document with arrays as JSON; float32 values have the digits of a float32."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
