"""The model in the repository agrees with its documentation, and today's code reads it."""

import subprocess
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from detector import Detector

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "models" / "digits" / "1"


def test_it_loads_and_is_of_the_promised_form():
    """Verified, self-tested: images of 8x8 in raw units 0 to 16, with a latent and a promise."""
    manifest = Detector.load(FOLDER).manifest

    assert (manifest.name, manifest.version, manifest.kind) == ("digits", 1, "image")
    assert (manifest.sample_shape, manifest.value_range) == ((8, 8), (0.0, 16.0))
    assert manifest.verbs == ("score", "denoise", "encode", "decode")
    assert (manifest.threshold.alpha, manifest.threshold.confidence) == (0.05, 0.95)
    assert manifest.data["source"] == "digits"


def test_it_is_under_one_megabyte():
    """A clone stays small."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000


def test_its_decisions_are_those_its_card_tells():
    """The false-alarm rate over all digits is near the expected one, noise is never normal."""
    detector = Detector.load(FOLDER)
    noise = np.random.default_rng(0).uniform(0, 16, size=(200, 8, 8))

    assert detector.score(load_digits().images).is_anomaly.mean() < 0.05
    assert detector.score(noise).is_anomaly.all()
    assert detector.score(np.zeros((1, 8, 8))).is_anomaly.all()


def test_its_sample_rows_are_scikit_learn_s_digits_with_source_and_licence():
    """Its foreign rows come from scikit-learn only, and have source and licence."""
    digits = {digit.tobytes() for digit in load_digits().images.astype(np.float32)}
    with np.load(FOLDER / "golden.npz") as golden:
        samples = golden["samples"]
    card = (FOLDER / "README.md").read_text()

    assert len(samples) <= 8
    assert all(sample.tobytes() in digits for sample in samples)
    assert "Alpaydin" in card
    assert "CC BY 4.0" in card


def test_git_leaves_its_bytes_alone():
    """Git does not convert line ends, which would break a hash."""
    command = ["git", "check-attr", "text", "models/digits/1/manifest.json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert answer.strip().endswith("text: unset")
