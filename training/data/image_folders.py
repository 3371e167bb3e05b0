"""Read a folder of image files."""

from pathlib import Path

import numpy as np

from detector.errors import InputError
from detector.images import read_image
from training.data.dataset import RawData
from training.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_image_folder(folder: Path) -> RawData:
    """Read every PNG and JPEG below a folder, in order of their paths; the first sub-folder is the label."""
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not paths:
        raise DataError(f"{folder.name} holds no {', '.join(IMAGE_SUFFIXES)} file")
    inside = [path for path in paths if path.parent != folder]
    outside = [path for path in paths if path.parent == folder]
    if inside and outside:
        raise DataError(
            "either all images must be in sub-folders, whose names are their labels, or none: "
            f"got {outside[0].name} and {inside[0].relative_to(folder)}"
        )
    labels = np.array([path.relative_to(folder).parts[0] for path in inside]) if inside else None
    images = []
    for path in paths:
        try:
            image = read_image(path.read_bytes())
        except InputError as error:
            raise DataError(f"{path.relative_to(folder)}: {error}") from error
        if images and image.shape != images[0].shape:
            raise DataError(
                f"images must have one size and mode: {paths[0].relative_to(folder)} has shape "
                f"{images[0].shape}, {path.relative_to(folder)} has {image.shape}"
            )
        images.append(image)
    return RawData(np.stack(images), labels)
