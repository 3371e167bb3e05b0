"""Images as samples: a single image, or the files of a multipart body."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from detector import InputError
from detector.images import count_pixels, decode_image
from service.bodies import Expected, Limits, check_rows, misplaced
from service.http.messages import Body
from service.http.problems import Problem

Read = TypeVar("Read")


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
    try:
        return read(image, *arguments)
    except InputError as error:
        raise misplaced(f"image {row}: {error}", row=row) from error


def split_parts(content: Body, boundary: str, limits: Limits) -> list[bytes]:
    """Return the files of a multipart body, in order.

    Raise `Problem` if there is no boundary, the body cannot be parsed, a part is not a file, or there are no
    files or too many.
    """
    if not boundary:
        raise Problem(
            "malformed-body", "the Content-Type of a multipart body must name its boundary, got none"
        )
    decoder = MultipartDecoder(boundary.encode())
    files: list[bytearray] = []
    try:
        decoder.receive_data(cast(bytes, content))  # which it only reads
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            if isinstance(event, Field):
                raise Problem(
                    "invalid-input",
                    f"every part must be a file with an image, got the field {event.name!r}; "
                    "options are query parameters",
                )
            if isinstance(event, File):
                files.append(bytearray())
                check_rows(len(files), limits)
            if isinstance(event, Data):
                files[-1] += event.data
    except ValueError as error:
        raise Problem("malformed-body", f"the multipart body cannot be parsed: {error}") from error
    if not files:
        raise Problem("malformed-body", "the multipart body must hold at least one file, got none")
    return [bytes(file) for file in files]
