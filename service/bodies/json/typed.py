"""Read short JSON as a type of msgspec, and report faults with their place."""

import base64
import binascii
import re
from typing import Any

import msgspec

from service import bodies
from service.bodies.json.strict import reworded
from service.http.problems import Problem

MAX_BASE64_BYTES = 8 * 2**20  # of an image in JSON; a larger one can be sent as it is
_SLICE_CHARACTERS = 2**18  # decoded at a time; four characters are three bytes


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
        if "=" in text[:-2]:
            raise ValueError("only the end may be padded")
        parts = (text[at : at + _SLICE_CHARACTERS] for at in range(0, len(text), _SLICE_CHARACTERS))
        return b"".join([base64.b64decode(part, validate=True) for part in parts])
    except (binascii.Error, ValueError) as error:
        raise misplaced(pointer, "must be base64 text") from error


def misplaced(pointer: str, sentence: str) -> Problem:
    """Return the problem of one place in the JSON."""
    detail = f"{pointer or 'the body'}: {sentence}"
    return bodies.misplaced(detail, pointer=pointer)
