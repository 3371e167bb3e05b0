"""Read a folder of image files: which are samples of which split, with which label and mask."""

import collections
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detector.columns import listed
from detector.errors import InputError
from detector.images import as_colours, as_deep, read_image
from detector.reading import Reading
from detector.sources.image_files import IMAGE_SUFFIXES, find_images, is_mask_folder, name_of_masked
from training.data.dataset import UNLABELLED, RawData
from training.errors import DataError

TRAIN, TEST, VALIDATION = "train", "test", "validation"
SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("test", "testing", "test_public"), TEST),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
}
_CONTAINERS = ("image", "images", "img", "imgs")  # folders that say nothing of their content
MOST_NAMED = 10  # in a sentence
DARK = 0.25  # of the levels of 16 bits
Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Place:
    """What a path says: the split, None if there are no splits, and the folders below it."""

    path: Path
    split: str | None
    folders: tuple[str, ...]


def read_image_folder(
    folder: Path, pixel_shape: tuple[int, ...] | None = None, resize: Size | None = None
) -> RawData:
    """Read the images below a folder, in order of their paths.

    Folders called `train`, `test`, `val`, `valid` and `validation` are splits. Without a `test`, `val` is the
    test split; otherwise its images join the training split. The first folder below a split is the label.
    Masks belong to images of the test split, or of the whole folder if it has no splits; see
    `detector.sources.image_files`.

    Parameters
    ----------
    folder : Path
    pixel_shape : tuple of int, optional
        Shape of the images that a model takes.
    resize : tuple of int, optional
        Height and width that images of any other size are brought to.

    Raises
    ------
    DataError
        If there are no images, some cannot be read, they have several sizes and there is no `resize`, some
        but not all have a label, or several sub-folders have splits.
    """
    files = find_images(folder)
    left_out = [
        f"{number} {suffix or 'without a suffix'}" for suffix, number in sorted(files.left_out.items())
    ]
    words = listed(left_out, MOST_NAMED, quoted=False)
    if not files.images:
        only = f", its other files are {words}" if left_out else ""
        raise DataError(f"{folder.name} holds no {', '.join(IMAGE_SUFFIXES)} file{only}")
    notes = [f"files of {folder.name} that are no images are left out: {words}"] if left_out else []
    places = _find_splits(folder, files.images, notes)
    labels, normal_label = _label(places, notes)
    samples = _read_all(folder, places, pixel_shape, resize, notes)
    masks = _read_masks(folder, _find_masks(files.masks, places, notes), samples.shape[1:3], resize)
    if masks and labels is None:
        labels = np.array(["1" if row in masks and masks[row].any() else "0" for row in range(len(places))])
        notes.append("images whose mask marks a pixel are anomalies, all others are normal")
    return RawData(
        samples,
        labels,
        n_held_out=sum(place.split == TEST for place in places),
        value_range=(0.0, float(np.iinfo(samples.dtype).max)),
        normal_label=normal_label,
        notes=tuple(notes),
        reading=Reading(resize=resize),
        masks=masks or None,
        files=tuple(str(place.path) for place in places),
    )


# --- splits and labels --------------------------------------------------------------------------------------


def _find_splits(folder: Path, images: Sequence[Path], notes: list[str]) -> list[_Place]:
    """Return the place of each image that is a sample, those of the test split last."""
    places = [_Place(path, None, _folders(path)) for path in images]
    tops = {place.folders[0] for place in places if place.folders}
    if not _are_splits(tops):
        nested = sorted({place.folders[0] for place in places if _splits_below(place)})
        if not nested:
            return places
        if len(tops) > 1:
            raise DataError(
                f"several folders of {folder.name} have splits of their own, {listed(nested, MOST_NAMED)}: "
                f"give one of them, such as --data {folder / nested[0]}"
            )
        places = [dataclasses.replace(place, folders=place.folders[1:]) for place in places]
    split = [place for place in places if place.folders and place.folders[0].lower() in SPLITS]
    beside = len(places) - len(split)
    if beside:
        notes.append(f"{beside} images of {folder.name} beside the splits are left out")
    split = [_Place(place.path, SPLITS[place.folders[0].lower()], place.folders[1:]) for place in split]
    present = {place.split for place in split}
    instead = TRAIN if TEST in present else TEST
    if VALIDATION in present:
        notes.append(
            "the validation images join the training split, which is split again"
            if TEST in present
            else "the validation images are the test split, since no folder is called test"
        )
    places = [
        dataclasses.replace(place, split=instead) if place.split == VALIDATION else place for place in split
    ]
    return sorted(places, key=lambda place: (place.split == TEST, place.path))


def _folders(path: Path) -> tuple[str, ...]:
    """Return the folders of a path that say what it holds."""
    return tuple(
        name for name in path.parts[:-1] if name.lower() not in _CONTAINERS and not is_mask_folder(name)
    )


def _are_splits(names: Collection[str]) -> bool:
    """Tell whether folders are splits: a folder called test alone may also be a label beside others."""
    splits = [SPLITS.get(name.lower()) for name in names]
    return TRAIN in splits or (bool(splits) and None not in splits)


def _splits_below(place: _Place) -> bool:
    return len(place.folders) > 1 and place.folders[1].lower() in SPLITS


def _label(places: list[_Place], notes: list[str]) -> tuple[np.ndarray | None, str | None]:
    """Return the labels, and the normal one if the training split has no other.

    Test images without a label are removed from `places` if the training images have labels.
    """
    by_split = collections.defaultdict(list)
    for place in places:
        by_split[place.split].append(place)
    for some in by_split.values():
        outside = next((place.path for place in some if not place.folders), None)
        inside = next((place.path for place in some if place.folders), None)
        if inside and outside:
            raise DataError(
                "either all images must be in sub-folders, whose names are their labels, or none: "
                f"got {outside} and {inside}"
            )
    names = {split: {place.folders[0] for place in some if place.folders} for split, some in by_split.items()}
    known, tested = names.get(TRAIN, set()), names.get(TEST, set())
    if known and TEST in names and not tested:
        notes.append(f"{len(by_split[TEST])} test images without a label are left out")
        places[:] = by_split[TRAIN]
    if not any(names.values()):
        return None, None
    if tested and TRAIN in names and not known:
        notes.append("training images without a label count as normal")
    normal = next(iter(known)) if len(known) == 1 and tested - known else None
    if normal is not None:
        notes.append(f"{normal} is the only label of the training split: it is the normal one")
    return np.array([place.folders[0] if place.folders else UNLABELLED for place in places]), normal


# --- pixels -------------------------------------------------------------------------------------------------


def _read_all(
    folder: Path,
    places: Sequence[_Place],
    pixel_shape: tuple[int, ...] | None,
    resize: Size | None,
    notes: list[str],
) -> np.ndarray:
    """Return the pixels of all images in one form: grey of 8 or 16 bits, or RGB."""
    images: list[np.ndarray] = []
    forms: collections.Counter[tuple[Size, str]] = collections.Counter()
    faults = []
    for place in places:
        try:
            image = read_image((folder / place.path).read_bytes(), pixel_shape, resize)
        except InputError as error:
            faults.append(f"{place.path}: {error}")
            continue
        forms[image.shape[:2], _mode(image)] += 1
        if len({size for size, _ in forms}) == 1:
            images.append(image)
        else:  # they are refused below, so only their sizes are still of interest
            images.clear()
    _refuse_faults(faults, len(places), "images")
    sizes, modes = collections.Counter(), collections.Counter()
    for (size, mode), number in forms.items():
        sizes[size] += number
        modes[mode] += number
    if len(sizes) > 1:
        raise _several_sizes(forms, sizes)
    if resize is not None:
        notes.append(
            f"images of another size are brought to {resize[0]} x {resize[1]} pixels (height x width), those "
            "of another aspect are stretched"
        )
    if len(modes) > 1:
        counts = " and ".join(f"{number} {mode}" for mode, number in modes.most_common())
        kind = "RGB" if "RGB" in modes else "16-bit grey"
        notes.append(f"{counts} images are all read as {kind}")
    if "RGB" in modes:
        images = list(map(as_colours, images))
    elif "16-bit grey" in modes:
        images = list(map(as_deep, images))
    samples = np.stack(images)
    white = np.iinfo(samples.dtype).max
    if samples.dtype == np.uint16 and samples.max() < DARK * white:
        notes.append(
            f"the 16-bit images are dark: their largest value is {samples.max()}, and white is {white}"
        )
    return samples


def _mode(image: np.ndarray) -> str:
    if image.ndim == 3:
        return "RGB"
    return "grey" if image.dtype == np.uint8 else "16-bit grey"


def _refuse_faults(faults: Sequence[str], n_files: int, what: str) -> None:
    if faults:
        more = f"; and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        raise DataError(
            f"{len(faults)} of {n_files} {what} cannot be used: {'; '.join(faults[:MOST_NAMED])}{more}"
        )


def _several_sizes(
    forms: collections.Counter[tuple[Size, str]], sizes: collections.Counter[Size]
) -> DataError:
    words = [
        f"{number} of {height} x {width} {mode}" for ((height, width), mode), number in forms.most_common()
    ]
    height, width = sizes.most_common(1)[0][0]
    return DataError(
        f"images must have one size, got {len(sizes)} sizes (height x width): "
        f"{listed(words, MOST_NAMED, quoted=False)}; bring all to one with --resize {height},{width}"
    )


# --- masks --------------------------------------------------------------------------------------------------


def _find_masks(masks: Sequence[Path], places: Sequence[_Place], notes: list[str]) -> dict[int, list[Path]]:
    """Return the masks of each image that has some, by its row; an image may have several."""
    has_test = any(place.split == TEST for place in places)
    rows: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
    for row, place in enumerate(places):
        if place.split == TEST or not has_test:
            rows[*place.folders, place.path.stem].append(row)
    found: dict[int, list[Path]] = collections.defaultdict(list)
    n_without_image = 0
    for mask in masks:
        split = _named_split(mask)
        keys = [key for key in _keys(mask) if key in rows][:1]
        own = [row for key in keys for row in rows[key] if split in (None, _named_split(places[row].path))]
        for row in own:
            found[row].append(mask)
        n_without_image += not own
    if n_without_image:
        notes.append(f"{n_without_image} of {len(masks)} masks belong to no image of the test split")
    return found


def _keys(mask: Path) -> Iterator[tuple[str, ...]]:
    """Yield what the image of a mask may be called: by its own folders, then by fewer of them."""
    folders = _folders(mask)
    for start in range(len(folders) + 1):
        below = folders[start:]
        yield (*below, mask.stem)
        yield (*below, name_of_masked(mask))
        yield below  # a folder of masks for each image


def _named_split(path: Path) -> str | None:
    return next((SPLITS[name.lower()] for name in path.parts[:-1] if name.lower() in SPLITS), None)


def _read_masks(
    folder: Path, found: Mapping[int, Sequence[Path]], shape: tuple[int, ...], resize: Size | None
) -> dict[int, np.ndarray]:
    """Return where each image is marked, bool of the shape of the samples: all that is not black."""
    masks, faults = {}, []
    for row, paths in found.items():
        for path in paths:
            try:
                levels = read_image((folder / path).read_bytes())
            except InputError as error:
                faults.append(f"{path}: {error}")
                continue
            marked = levels.reshape(*levels.shape[:2], -1).any(axis=2)
            if resize is not None:  # a defect must not vanish: every pixel that it touches is marked
                scaled = Image.fromarray(marked).convert("F").resize(resize[::-1], Image.Resampling.BOX)
                marked = np.asarray(scaled) > 0
            if marked.shape != shape:
                faults.append(f"{path}: the mask must be as large as its image, {shape}, got {marked.shape}")
                continue
            masks[row] = masks.get(row, False) | marked
    _refuse_faults(faults, sum(map(len, found.values())), "masks")
    return masks
