"""`import detector`: its names are there, whether they are imported at once or on first use."""

import pytest

import detector


def test_every_public_name_is_there():
    """Lazy names, such as `Detector` and `ModelStore`, exist, too."""
    assert all(getattr(detector, name).__name__ == name for name in detector.__all__)
    assert set(detector.__all__) <= set(dir(detector))


def test_an_unknown_name_is_an_attribute_error():
    """The package raises the error of an ordinary module."""
    with pytest.raises(AttributeError, match="module 'detector' has no attribute 'Detektor'"):
        _ = detector.Detektor
