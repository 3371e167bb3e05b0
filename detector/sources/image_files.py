"""Find the images of a folder; tell them from masks and from files that systems leave behind."""

import collections
import dataclasses
import re
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp")

_SYSTEM_NAMES = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
_MASK_FOLDER = re.compile(r"ground[_ -]?truth|masks?", re.IGNORECASE)
_MASK_STEM = re.compile(r"(?P<image>.+)[_-](mask|gt|ground[_-]?truth)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """The files of a folder and its sub-folders, in order of their paths.

    Attributes
    ----------
    images : tuple of Path
        Relative to the folder.
    masks : tuple of Path
        Images that say which pixels of another image are anomalous, relative to the folder.
    left_out : Counter of str
        Number of other files by their suffix in lower case, `""` for none. Hidden files and files of the
        system are not counted.
    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    left_out: collections.Counter[str]


def find_images(folder: Path) -> ImageFiles:
    """Find the images below a folder.

    A mask is an image below a folder called `ground_truth`, `mask` or `masks`, or one called as another image
    of its folder with `_mask`, `_gt` or `_ground_truth` added.
    """
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = sorted(path for path in found if not any(map(_is_hidden, path.parts)))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    left_out = collections.Counter(
        path.suffix.lower() for path in files if path.suffix.lower() not in IMAGE_SUFFIXES
    )
    names = {path.with_suffix("") for path in images}
    is_mask = [
        is_below_masks(path) or path.with_name(name_of_masked(path)) in names - {path.with_suffix("")}
        for path in images
    ]
    return ImageFiles(
        tuple(path for path, mask in zip(images, is_mask, strict=True) if not mask),
        tuple(path for path, mask in zip(images, is_mask, strict=True) if mask),
        left_out,
    )


def name_of_masked(path: Path) -> str:
    """Return the name, without suffix, of the image that a mask belongs to: `000` for `000_mask.png`."""
    match = _MASK_STEM.fullmatch(path.stem)
    return match["image"] if match else path.stem


def is_below_masks(path: Path) -> bool:
    """Tell whether a path leads through a folder of masks."""
    return any(map(is_mask_folder, path.parts[:-1]))


def is_mask_folder(name: str) -> bool:
    """Tell whether a folder of this name holds masks."""
    return _MASK_FOLDER.fullmatch(name) is not None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES
