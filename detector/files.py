"""The files of a version folder: names, hashes, reading."""

import dataclasses
import hashlib
from pathlib import Path

from detector import schema
from detector.errors import IntegrityError

MANIFEST_FILE = "manifest.json"
DIGEST_FILE = "manifest.sha256"
MODEL_FILE = "model.onnx"
ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"
CLASSIFIER_FILE = "classifier.onnx"
WEIGHTS_FILE = "weights.npz"  # optional, read only by `training`
CALIBRATION_FILE = "calibration.npz"
GOLDEN_FILE = "golden.npz"
REPORT_FILE = "report.html"
FIGURES_FILE = "report.json"
CARD_FILE = "README.md"


@dataclasses.dataclass(frozen=True)
class FileEntry:
    """The content that one file of the folder must have: `sha256` in hex digits, and `size` in bytes."""

    sha256: str = dataclasses.field(metadata=schema.DIGEST)
    size: int = dataclasses.field(metadata=schema.SIZE)


def read_file(folder: Path, name: str, entry: FileEntry) -> bytes:
    """Read a file that the manifest lists; raise `IntegrityError` if it is missing or has other bytes."""
    content = read_bytes(folder, name, size=entry.size)
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise IntegrityError(f"{name} must have SHA-256 {entry.sha256}, got {digest}")
    return content


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Make the entries for every file of a folder except the manifest and its digest."""
    entries = {}
    for path in sorted(folder.iterdir()):
        if path.name not in (MANIFEST_FILE, DIGEST_FILE):
            content = path.read_bytes()
            entries[path.name] = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
    return entries


def required_files(*, latent: bool, classifier: bool = False) -> tuple[str, ...]:
    """Names of the files that a folder must hold in addition to its manifest and digest."""
    files = (MODEL_FILE, CALIBRATION_FILE, GOLDEN_FILE, REPORT_FILE, FIGURES_FILE, CARD_FILE)
    return (*files, *(ENCODER_FILE, DECODER_FILE) * latent, *(CLASSIFIER_FILE,) * classifier)


def read_bytes(folder: Path, name: str, size: int | None = None) -> bytes:
    """Return the bytes of one file; raise IntegrityError if it cannot be read or has another size."""
    path = folder / name
    try:
        actual = path.stat().st_size
        if size is not None and actual != size:
            raise IntegrityError(f"{name} must have {size} bytes, got {actual}")
        return path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{name} cannot be read in {folder}: {error.strerror}") from error
