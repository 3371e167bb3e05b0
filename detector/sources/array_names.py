"""Tell samples from labels, and splits from each other, by the names of the arrays of an `.npz`."""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from detector.errors import InputError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SAMPLES, LABELS = "samples", "labels"
Role = tuple[str | None, str]  # a split, or None, and what it holds

MOST_INFLATED = 2**31  # bytes of compressed arrays; deflate makes a thousandth of zeros

# Preferred words first. `arr_0` is the first array that `numpy.savez` gets without a name.
_SAMPLES = (
    *("x", "samples", "sample", "data", "features", "images", "image", "imgs", "inputs", "input", "windows"),
    *("signals", "series", "values", "arr_0"),
)
_LABELS = (
    *("y", "labels", "label", "targets", "target", "classes", "class", "anomalies", "anomaly"),
    *("is_anomaly", "outliers", "arr_1"),
)
_SPLITS = {
    **dict.fromkeys(("training", "train", "tr"), TRAIN),
    **dict.fromkeys(("testing", "test", "te"), TEST),
    **dict.fromkeys(("validation", "valid", "val"), VALIDATION),
}
_WORDS = "|".join(sorted((*_SAMPLES, *_LABELS), key=len, reverse=True))
_NAME = re.compile(
    rf"(?P<before>{_WORDS})?[_ .-]?(?P<split>{'|'.join(_SPLITS)})?[_ .-]?(?P<after>{_WORDS})?", re.IGNORECASE
)


def find_roles(names: Iterable[str]) -> dict[Role, str]:
    """Return the name of the samples and the labels of each split; names without a role are left out.

    `X`, `data` and `images` are samples, `y`, `label` and `targets` are labels, in capitals or not;
    `x_train`, `train_images` and `train` belong to a split. If several arrays have one role, that with the
    more usual name has it.
    """
    found: dict[Role, tuple[int, str]] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        words = [word.lower() for word in (match["before"], match["after"]) if word] if match else []
        if match is None or len(words) > 1 or not (words or match["split"]):
            continue
        split = _SPLITS[match["split"].lower()] if match["split"] else None
        kind = LABELS if words and words[0] in _LABELS else SAMPLES
        rank = (*_SAMPLES, *_LABELS).index(words[0]) if words else len(_SAMPLES)
        found[split, kind] = min(found.get((split, kind), (rank, name)), (rank, name))
    return {role: name for role, (_, name) in found.items()}


def check_inflated(path: Path, names: Iterable[str]) -> None:
    """Refuse compressed arrays of an `.npz` that would need too much memory.

    Raise `InputError` with their size, and what to do.
    """
    with zipfile.ZipFile(path) as archive:
        members = {f"{name}.npy" for name in names}
        inflated = sum(
            entry.file_size
            for entry in archive.infolist()
            if entry.filename in members and entry.compress_type != zipfile.ZIP_STORED
        )
    if inflated > MOST_INFLATED:
        raise InputError(
            f"{path.name} has {path.stat().st_size / 1e6:.3g} MB and inflates to {inflated / 1e9:.3g} GB: "
            f"compressed arrays may have at most {MOST_INFLATED / 1e9:.3g} GB, so save it with numpy.savez, "
            "which does not compress"
        )
