"""Find the encoding of a text file."""

import codecs
import re

PLAIN = "utf-8"

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as the mark of UTF-16 does
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUL_SHARE = 0.3  # of the bytes at even or odd places: letters and digits in UTF-16
_HIGH = re.compile(rb"[\x80-\xff]+")
# Hangul, and the units that Korean keyboards write as one character.
_KOREAN = re.compile(r"[\x00-\x7f\u3130-\u318f\uac00-\ud7a3\u3380-\u33df\u2100-\u214f\u2200-\u22ff°±×·²³]*")
_WESTERN = re.compile(r"[\x00-\x7f\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ffŒœŠšŽžŸ°µ²³±€£§–—‘’“”…·×½¼¾º«»]*")


def encoding_of(content: bytes, preferred: str | None = None) -> str | None:
    """Return the encoding of a text, None where it is not certain.

    Parameters
    ----------
    content : bytes
        The text or its beginning, which may end within a character.
    preferred : str, optional
        Encoding to return if the content is not marked, has none but ASCII or is no UTF-8, and can be decoded
        by it.

    Returns
    -------
    str or None
        `utf-8`; `utf-8-sig`, `utf-16` or `utf-32` if there is a byte order mark; `utf-16-le` or `utf-16-be`
        if every other byte of the text is 0; `cp949` if every other character is Korean; `cp1252`, which
        includes Latin-1, if every other character is Western and few stand together.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        units = content[first::2]
        if units and units.count(0) > _NUL_SHARE * len(units):
            return name
    is_plain = decode(content, PLAIN) is not None
    if preferred is not None and (content.isascii() or not is_plain) and decode(content, preferred):
        return preferred
    return PLAIN if is_plain else _eight_bit_encoding(content)


def _eight_bit_encoding(content: bytes) -> str | None:
    lengths = list(map(len, _HIGH.findall(content)))
    korean, western = decode(content, "cp949"), decode(content, "cp1252")
    is_korean = korean is not None and _KOREAN.fullmatch(korean) and max(lengths) > 1
    are_letters = max(lengths) <= 2 and lengths.count(1) * 2 >= len(lengths)  # among those of ASCII
    is_western = western is not None and _WESTERN.fullmatch(western) and are_letters
    if bool(is_korean) == bool(is_western):
        return None
    return "cp949" if is_korean else "cp1252"


def decode(content: bytes, encoding: str) -> str | None:
    """Decode the beginning of a text, which may end within a character; None if it is in no such encoding."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(content)
    except (UnicodeError, LookupError):
        return None
