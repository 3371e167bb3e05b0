"""Latents in fewer bytes: they come back within half a step, and the reported figures are exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detector import Detector, InputError, NoInt8Latent, NoLatent
from detector.latents import fit_int8, pack, unpack
from tests.model_folder import LATENT_INT8, write_model_folder

latents = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 4)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@pytest.fixture
def packing(tmp_path) -> Detector:
    """The hand-made vector model with an 8-bit form: steps of a half, and of a quarter round 1."""
    write_model_folder(tmp_path, latent_int8=LATENT_INT8)
    return Detector.load(tmp_path)


@given(latent=latents)
def test_int8_gives_back_what_it_was_fitted_to(latent):
    """Values come back within half a step, constant components exactly, and scales are positive."""
    form = fit_int8(latent)

    again = unpack(pack(latent, "int8", form), "int8", form)

    assert min(form.scale) > 0
    size = np.abs(latent.astype(np.float64)).max(axis=0)
    assert (np.abs(again - latent.astype(np.float64)) <= np.array(form.scale) / 2 + 1e-6 * size).all()
    constant = np.ptp(latent, axis=0) == 0
    np.testing.assert_array_equal(again[:, constant], latent[:, constant])


def test_int8_uses_both_ends():
    """The least value is -128 and the largest 127, by component of the last axis."""
    latent = np.array([[[0, 5], [1, 5]], [[2, 6], [4, 7]]], np.float32)

    packed = pack(latent, "int8", fit_int8(latent))

    assert packed[..., 0].min() == packed[..., 1].min() == -128
    assert packed[..., 0].max() == packed[..., 1].max() == 127


@pytest.mark.parametrize(
    ("dtype", "latent", "again"),
    [
        ("float32", [[1e9, 0.1]], [[1e9, 0.1]]),
        ("float16", [[1e9, 0.1]], [[65504, 0.0999755859375]]),
        ("int8", [[1e9, -1e9]], [[63.5, -31]]),
        ("int8", [[0.6, 1.1]], [[0.5, 1.0]]),
    ],
)
def test_pack_ends_at_the_range_of_the_dtype(dtype, latent, again):
    """A value that is too large becomes the largest one, never infinite and never negative."""
    latent = np.array(latent, np.float32)

    packed = pack(latent, dtype, LATENT_INT8)

    assert packed.dtype == dtype
    np.testing.assert_array_equal(unpack(packed, dtype, LATENT_INT8), np.array(again, np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_decode_undoes_encode_in_every_dtype(packing, dtype):
    """The third value is not kept at all, the first two within half a step."""
    samples = np.array([[1.1, 2.2, 3.3], [-1.1, 0.4, 0]])
    tolerance = {"float32": 1e-6, "float16": 1e-3, "int8": 0.25}[dtype]

    latent = packing.encode(samples, dtype=dtype)

    assert latent.dtype == dtype
    decoded = packing.decode(latent, dtype=dtype)
    np.testing.assert_allclose(decoded, samples * [1, 1, 0], atol=tolerance)


@pytest.mark.parametrize(("dtype", "ratio"), [("float32", 1.5), ("float16", 3), ("int8", 6)])
def test_compress_measures_what_it_answers(packing, dtype, ratio):
    """The ratio is three 4-byte values to two components, and the error is that of decoding this answer."""
    samples = np.random.default_rng(0).normal(size=(50, 3))

    compressed = packing.compress(samples, dtype=dtype)

    decoded = packing.decode(compressed.latent, dtype=dtype)
    assert compressed.ratio == ratio
    np.testing.assert_array_equal(compressed.latent, packing.encode(samples, dtype=dtype))
    assert compressed.error == pytest.approx(np.sqrt(np.square(samples - decoded).mean()), rel=1e-6)


def test_compress_counts_a_byte_for_a_pixel(tmp_path):
    """An image is compared with its 8-bit file, whatever dtype it is posted in."""
    write_model_folder(tmp_path, sample_shape=(4, 5))

    compressed = Detector.load(tmp_path).compress(np.ones((3, 4, 5)))

    assert compressed.ratio == 20 / 8


@pytest.mark.parametrize(
    ("latent", "dtype", "words"),
    [
        ([[1, 128]], "int8", "latent of dtype int8 must be integers from -128 to 127, got 128 in row 0, [1]"),
        ([[1, 2], [-129, 0]], "int8", "got -129 in row 1, [0]"),
        ([[0.5, 1]], "int8", "must be integers from -128 to 127, got 0.5"),
        ([[70000.0, 1]], "float16", "latent of dtype float16 must be between -65504 and 65504, got 70000"),
        ([[1, 2]], "int4", "dtype must be one of float32, float16, int8, got 'int4'"),
        (np.int8([[1, 2]]), "float32", "8-bit integers must be decoded with dtype int8"),
    ],
)
def test_decode_refuses_what_no_such_latent_holds(packing, latent, dtype, words):
    """The value and its place are named."""
    with pytest.raises(InputError) as caught:
        packing.decode(np.array(latent), dtype=dtype)

    assert words in str(caught.value)


def test_int8_needs_its_form_in_the_manifest(detector, tmp_path):
    """A model without a latent says that first."""
    write_model_folder(tmp_path / "flat", latent_shape=None)

    with pytest.raises(NoInt8Latent, match="model tiny version 1 has no 8-bit form of its latent"):
        detector.encode(np.ones((1, 3)), dtype="int8")
    with pytest.raises(NoInt8Latent):
        detector.decode(np.ones((1, 2)), dtype="int8")
    with pytest.raises(NoLatent):
        Detector.load(tmp_path / "flat").encode(np.ones((1, 3)), dtype="int8")
