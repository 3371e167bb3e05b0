"""Read short JSON as a type of msgspec, and report faults with their place."""

import base64
import binascii
import re
from typing import Any

import msgspec

from service import bodies
from service.bodies.json.strict import reworded
from service.http.problems import Problem


def decode_typed(raw: bytes | msgspec.Raw | memoryview, form: Any, pointer: str = "") -> Any:
    """Read the JSON at a place of the body, by default the whole body, as a type of msgspec.

    Raise `Problem` if the text is not JSON, or a value has another type, naming the first.
    """
    try:
        return msgspec.json.decode(raw, type=form)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `$")
        place = pointer + re.sub(r"[.\[]", "/", path.rstrip("`")).replace("]", "")
        raise misplaced(place, reworded(sentence)) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Problem("malformed-body", f"{pointer or 'the body'} is not JSON: {error}") from error


def decode_base64(text: str, pointer: str) -> bytes:
    """Return the bytes of a base64 text at this place; raise `Problem` if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise misplaced(pointer, "must be base64 text") from error


def misplaced(pointer: str, sentence: str) -> Problem:
    """Return the problem of one place in the JSON."""
    detail = f"{pointer or 'the body'}: {sentence}"
    return bodies.misplaced(detail, pointer=pointer)
