"""Images as samples: a single image, or the files of a multipart body."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from detector import InputError
from detector.engine.session import check_stop
from detector.images import count_pixels, decode_image
from service.bodies import Expected, Limits, check_rows, misplaced
from service.http.messages import Body
from service.http.problems import Problem

Read = TypeVar("Read")

_PIECE_BYTES = 32 * 2**10  # of a multipart body that are parsed at a time
_PENDING_BYTES = 2 * _PIECE_BYTES  # bounds the head of a part, and what stands before the first one
_MOST_FIELDS = 20  # of the head of a part


def decode_images(images: Sequence[Body], expected: Expected, limits: Limits) -> np.ndarray:
    """Return one sample for each image, in order; float32.

    Raise `Problem` if there are too many images, or one does not fit the model, naming the first.
    """
    check_rows(len(images), limits)
    _check_pixels(len(images) * math.prod(expected.shape), limits)
    if expected.resize is not None:
        sent = sum(_at(row, count_pixels, image) for row, image in enumerate(images))
        _check_pixels(sent * math.prod(expected.shape[2:]), limits)
    value_range = cast(tuple[float, float], expected.value_range)  # it is known if images are accepted
    samples = np.empty((len(images), *expected.shape), dtype=np.float32)
    for row, image in enumerate(images):
        samples[row] = _at(row, decode_image, image, expected.shape, value_range, expected.resize)
    return samples


def _check_pixels(pixel_bytes: int, limits: Limits) -> None:
    if pixel_bytes > limits.max_bytes:
        raise Problem(
            "body-too-large",
            f"the images of a body may have at most {limits.max_bytes} bytes of pixels, got {pixel_bytes}",
        )


def _at(row: int, read: Callable[..., Read], image: Body, *arguments: Any) -> Read:
    """Read an image; a fault names its row."""
    check_stop()
    try:
        return read(image, *arguments)
    except InputError as error:
        raise misplaced(f"image {row}: {error}", row=row) from error


def split_parts(content: Body, boundary: str, limits: Limits) -> list[bytearray]:
    """Return the files of a multipart body, in order.

    Raise `Problem` if there is no boundary, the body cannot be parsed, a part is not a file or its head is
    too long, or there are no files or too many.
    """
    if not boundary:
        raise Problem(
            "malformed-body", "the Content-Type of a multipart body must name its boundary, got none"
        )
    _count_parts(memoryview(content), boundary, limits)
    files: list[bytearray] = []
    try:
        for event in _events(memoryview(content), boundary):
            if isinstance(event, Field):
                raise Problem(
                    "invalid-input",
                    f"every part must be a file with an image, got the field {str(event.name)[:80]!r}; "
                    "options are query parameters",
                )
            if isinstance(event, File):
                _check_fields(event)
                files.append(bytearray())
                check_rows(len(files), limits)
            if isinstance(event, Data):
                files[-1] += event.data
    except ValueError as error:
        raise Problem("malformed-body", f"the multipart body cannot be parsed: {error}") from error
    if not files:
        raise Problem("malformed-body", "the multipart body must hold at least one file, got none")
    return files


def _count_parts(content: memoryview, boundary: str, limits: Limits) -> None:
    """Refuse a body with too many parts before any is parsed; the boundary after the last one has no part."""
    mark, n_parts = b"--" + boundary.encode(), -1
    for at in range(0, len(content), _PIECE_BYTES):
        n_parts += bytes(content[at : at + _PIECE_BYTES]).count(mark)
    check_rows(n_parts, limits)


def _events(content: memoryview, boundary: str) -> Iterator[Event]:
    """Parse a multipart body piece by piece, so that no step takes long."""
    decoder = MultipartDecoder(boundary.encode(), max_form_memory_size=_PENDING_BYTES)
    pieces = (bytes(content[at : at + _PIECE_BYTES]) for at in range(0, len(content), _PIECE_BYTES))
    for piece in itertools.chain(pieces, [None]):
        check_stop()
        try:
            decoder.receive_data(piece)
        except RequestEntityTooLarge as error:
            raise ValueError(f"no head of a part ends within {_PENDING_BYTES} bytes") from error
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            yield event


def _check_fields(part: File) -> None:
    """Refuse a part with many header fields: parsing them takes longer than the images."""
    if len(part.headers) > _MOST_FIELDS:
        raise Problem(
            "malformed-body", f"a part may have at most {_MOST_FIELDS} header fields, got {len(part.headers)}"
        )
