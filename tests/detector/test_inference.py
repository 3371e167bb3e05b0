"""`Detector`: scores with a known answer, the same bits in any batch, precise refusals, explanations."""

import dataclasses
import json
import multiprocessing
import pickle

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from detector import Detector, InputError, IntegrityError, NoLatent, NonFiniteScore
from detector.calibration import threshold_at
from detector.engine.session import CHUNK_ROWS, CHUNK_VALUES, Session
from tests.model_folder import expected_score, linear_graphs, write_model_folder

SHAPES = [(3,), (30,), (257,), (8, 8), (28, 28), (8, 8, 3)]
BATCHES = (1, 2, 7, 64, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 1000)


def load(folder, *, threads: int = 1, **changes: object) -> Detector:
    """Return the hand-made model with other manifest fields."""
    write_model_folder(folder, **changes)
    return Detector.load(folder, threads=threads)


def load_shape(folder, shape: tuple[int, ...], threads: int = 1) -> Detector:
    """Return the hand-made model for another shape, its features without names."""
    return load(folder, threads=threads, sample_shape=shape, feature_names=None)


def graph_of(*nodes: onnx.NodeProto, constants: dict[str, np.ndarray], n_features: int) -> dict[str, bytes]:
    """Return a `model.onnx` for rows of `n_features`, without a latent."""
    row = ("batch", n_features)
    tensors = {"score": ("batch",), "reconstruction": row, "feature_error": row}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, row)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in tensors.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 18)
    return {"model.onnx": helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()}


def dense_autoencoder(n_features: int) -> dict[str, bytes]:
    """Return a graph like a fitted one: two layers with random weights, a mean squared error as a product."""
    rng = np.random.default_rng(0)
    n_hidden = 2 * n_features + 1
    constants = {
        "up": rng.normal(size=(n_features, n_hidden)).astype(np.float32),
        "down": rng.normal(size=(n_hidden, n_features)).astype(np.float32),
        "bias": rng.normal(size=n_hidden).astype(np.float32),
        "weights": np.full(n_features, 1 / n_features, dtype=np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["samples", "up"], ["raised"]),
        helper.make_node("Add", ["raised", "bias"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "down"], ["reconstruction"]),
        helper.make_node("Sub", ["samples", "reconstruction"], ["residual"]),
        helper.make_node("Mul", ["residual", "residual"], ["feature_error"]),
        helper.make_node("MatMul", ["feature_error", "weights"], ["score"]),
    ]
    return graph_of(*nodes, constants=constants, n_features=n_features)


def square_root_model() -> dict[str, bytes]:
    """Return a graph whose score is the root of a sample's first value plus 10: NaN for values below -10."""
    constants = {"weights": np.array([1, 0, 0], np.float32), "ten": np.array(10, np.float32)}
    nodes = [
        helper.make_node("Identity", ["samples"], ["reconstruction"]),
        helper.make_node("Add", ["samples", "ten"], ["raised"]),
        helper.make_node("Sqrt", ["raised"], ["feature_error"]),
        helper.make_node("MatMul", ["feature_error", "weights"], ["score"]),
    ]
    return graph_of(*nodes, constants=constants, n_features=3)


# --- the answers themselves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_score_equals_the_known_answer(tmp_path, shape):
    """The score of the hand-made graph is the one that NumPy computes without it."""
    samples = np.random.default_rng(1).normal(size=(300, *shape))

    score = load_shape(tmp_path, shape).score(samples).score

    assert score.dtype == np.float64
    np.testing.assert_allclose(score, expected_score(samples.astype(np.float32)), rtol=1e-5)


def test_score_answers_every_figure_of_the_decision(detector):
    """A normal and an anomalous row, worked out by hand: 0 and 9 / 3 against the fifth largest score."""
    result = detector.score(np.array([[1, 2, 0], [1, 2, 3]]))

    rule = detector.manifest.threshold
    assert result.score.tolist() == [0.0, 3.0]
    assert result.ratio.tolist() == [0.0, 3.0 / rule.value]
    assert result.p_value.tolist() == [1.0, 1 / 200]
    assert result.is_anomaly.tolist() == [False, True]
    assert (result.threshold, result.alpha, result.expected_rate) == (rule.value, 0.05, rule.rank / 200)
    assert (result.selected, result.explanation) == (None, None)


def test_score_on_the_threshold_is_normal(detector):
    """The decision is strict, so the calibration score that became the threshold is no anomaly."""
    rule = detector.manifest.threshold
    outputs = {"score": np.array([rule.value, np.nextafter(rule.value, 9)])}

    result = detector.engine.judge(np.zeros((2, 3)), outputs)

    assert result.is_anomaly.tolist() == [False, True]
    assert (result.is_anomaly == (result.p_value <= result.expected_rate)).all()


def test_decisions_agree_with_p_values_on_random_samples(detector):
    """`score > threshold` and `p_value <= expected_rate` are one statement, whatever alpha is asked for."""
    samples = np.random.default_rng(2).normal(size=(500, 3))
    for alpha in (0.02, 0.05, 0.18, 0.5, 0.9):
        result = detector.score(samples, alpha=alpha)

        assert (result.is_anomaly == (result.p_value <= result.expected_rate)).all()
        assert result.is_anomaly.any()


def test_reconstruct_encode_and_decode_have_the_known_answers(detector):
    """The first two values are kept, the rest becomes 0; decoding the code gives the reconstruction."""
    samples = np.array([[1, 2, 3], [4, 5, 6]])

    reconstruction, latent = detector.reconstruct(samples), detector.encode(samples)

    assert reconstruction.tolist() == [[1, 2, 0], [4, 5, 0]]
    assert latent.tolist() == [[1, 2], [4, 5]]
    assert detector.decode(latent).tobytes() == reconstruction.tobytes()
    assert {reconstruction.dtype, latent.dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("verb", "width"), [("encode", 3), ("decode", 2)])
def test_model_without_a_latent_neither_encodes_nor_decodes(tmp_path, verb, width):
    """The error says so, and the model still scores."""
    detector = load(tmp_path, latent_shape=None)

    with pytest.raises(NoLatent, match="model tiny has no latent: it cannot encode or decode"):
        getattr(detector, verb)(np.zeros((1, width)))

    assert detector.score(np.array([[0, 0, 3]])).score.tolist() == [3.0]


# --- the same bits in any batch -----------------------------------------------------------------------------


def bits_alone(detector: Detector, samples: np.ndarray) -> bytes:
    return b"".join(detector.score(samples[[row]]).score.tobytes() for row in range(len(samples)))


def assert_bits_do_not_depend_on_the_batch(detector: Detector, samples: np.ndarray) -> None:
    """Rows alone, in batches of many sizes and in reversed order have the same bits."""
    alone = bits_alone(detector, samples)
    for size in BATCHES:
        batches = [samples[start : start + size] for start in range(0, len(samples), size)]
        assert b"".join(detector.score(batch).score.tobytes() for batch in batches) == alone, size
    assert detector.score(samples[::-1]).score[::-1].tobytes() == alone


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_score_has_the_same_bits_in_any_batch(tmp_path, shape, threads):
    """Scores do not depend on the batch, for any kind of sample and number of threads."""
    samples = np.random.default_rng(3).normal(size=(1000, *shape)).astype(np.float32)

    assert_bits_do_not_depend_on_the_batch(load_shape(tmp_path, shape, threads), samples)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_features", [5, 30, 64])
def test_dense_score_has_the_same_bits_in_any_batch(tmp_path, n_features, threads):
    """Real matrix products give the same bits, whether or not their width fills vector registers."""
    detector = load(
        tmp_path,
        threads=threads,
        graphs=dense_autoencoder(n_features),
        sample_shape=(n_features,),
        feature_names=None,
        latent_shape=None,
    )
    samples = np.random.default_rng(4).normal(size=(1000, n_features)).astype(np.float32)

    assert_bits_do_not_depend_on_the_batch(detector, samples)


def test_other_outputs_have_the_same_bits_in_any_batch(detector):
    """Reconstruction and latent too, over the border of a chunk."""
    samples = np.random.default_rng(5).normal(size=(CHUNK_ROWS + 3, 3)).astype(np.float32)

    for verb in (detector.reconstruct, detector.encode):
        alone = b"".join(verb(samples[[row]]).tobytes() for row in range(len(samples)))
        assert verb(samples).tobytes() == alone


def test_large_samples_run_in_chunks_of_bounded_size():
    """Images of a million values run one by one, and their scores are still the known ones."""
    side = int(CHUNK_VALUES**0.5)
    shape = (side, side)
    outputs = {"score": (), "reconstruction": shape, "feature_error": shape, "latent": (2,)}
    session = Session(linear_graphs(shape)["model.onnx"], "model.onnx", "samples", shape, outputs)
    samples = np.random.default_rng(6).normal(size=(3, *shape)).astype(np.float32)

    score = session.run(samples, ["score"])["score"]

    np.testing.assert_allclose(score, expected_score(samples), rtol=1e-4)


# --- valid and invalid samples ------------------------------------------------------------------------------

WHOLE = np.array([[1, 2, 3], [7, 5, 30]])


@pytest.mark.parametrize(
    "samples",
    [
        *(WHOLE.astype(dtype) for dtype in ("u1", "i1", "u8", "i8", "f2", "f4", "f8", ">f4", ">f8", ">i4")),
        np.asfortranarray(WHOLE),
        np.repeat(WHOLE, 2, axis=1)[:, ::2],
        WHOLE[::-1, ::-1].copy()[::-1, ::-1],
        WHOLE.astype(np.longdouble),
        WHOLE.tolist(),
    ],
    ids=lambda samples: str(getattr(samples, "dtype", "list")),
)
def test_score_takes_every_real_dtype_and_layout(detector, samples):
    """Integers, other precisions and byte orders, and views: the same values have the same score."""
    assert detector.score(samples).score.tolist() == [3.0, 300.0]


def test_score_leaves_the_samples_as_they_are(detector):
    """Samples are neither written to nor kept."""
    samples = np.array([[1.5, 2, 3]], dtype=np.float32)
    samples.flags.writeable = False

    detector.score(samples, explain=2)

    assert samples.tolist() == [[1.5, 2, 3]]


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (np.ones((1, 3), bool), "samples must be real numbers, got an array of bool"),
        (np.ones((1, 3), complex), "samples must be real numbers, got an array of complex128"),
        (np.array([["1", "2", "3"]]), "samples must be real numbers, got an array of <U1"),
        (np.array([[1, None, 3]]), "samples must be real numbers, got an array of object"),
        (np.zeros((1, 3), "M8[s]"), "samples must be real numbers, got an array of datetime64[s]"),
        (np.zeros((4, 2)), "samples must have shape (n, 3), got (4, 2)"),
        (np.zeros(3), "samples must have shape (n, 3), got (3,)"),
        (np.zeros((1, 3, 1)), "samples must have shape (n, 3), got (1, 3, 1)"),
        (np.float64(3), "samples must have shape (n, 3), got ()"),
        (np.zeros((0, 3)), "samples must hold at least one sample, got shape (0, 3)"),
    ],
)
def test_score_refuses_samples_that_do_not_fit(detector, samples, sentence):
    """The error has the expected and the actual samples."""
    with pytest.raises(InputError) as caught:
        detector.score(samples)

    assert str(caught.value) == sentence
    assert caught.value.index is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1e39])
def test_score_refuses_what_is_no_finite_float32_and_says_where(detector, value):
    """The first such value, by row and feature, and as an index for programs."""
    samples = np.zeros((300, 3))
    samples[299, 1] = value

    with pytest.raises(InputError) as caught:
        detector.score(samples)

    hint = "; missing values are for models fitted with --missing median" if np.isnan(value) else ""
    assert str(caught.value) == f"samples must be finite float32 values, got {value} in row 299, b{hint}"
    assert caught.value.index == (299, 1)


@pytest.mark.parametrize("shape", [(4, 5, 3), (5, 5, 1)])
def test_images_with_channels_first_get_the_transpose(tmp_path, shape):
    """PyTorch puts channels first; the hint is a call that can be pasted."""
    write_model_folder(tmp_path / "images", sample_shape=shape)
    samples = np.zeros((2, shape[2], *shape[:2]))
    detector = Detector.load(tmp_path / "images")

    with pytest.raises(InputError, match=r"channels come last, as in numpy\.moveaxis\(samples, 1, -1\)$"):
        detector.score(samples)

    assert detector.score(np.moveaxis(samples, 1, -1)).score.shape == (2,)


def test_refusal_names_a_pixel_by_its_position(tmp_path):
    """Features without names are counted from 0, row and column."""
    detector = load_shape(tmp_path, (8, 8))
    samples = np.zeros((2, 8, 8))
    samples[1, 2, 5] = np.nan

    with pytest.raises(InputError, match=r"in row 1, \[2, 5\]") as caught:
        detector.score(samples)

    assert caught.value.index == (1, 2, 5)


@pytest.mark.parametrize("verb", ["reconstruct", "encode"])
def test_other_verbs_refuse_the_same_samples(detector, verb):
    """Every verb reads samples by the same rules."""
    with pytest.raises(InputError, match=r"samples must have shape \(n, 3\), got \(1, 2\)"):
        getattr(detector, verb)(np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("latent", "words"),
    [
        (np.zeros((1, 3)), r"latent must have shape \(n, 2\), got \(1, 3\)"),
        (np.array([[0, np.nan]]), r"latent must be finite float32 values, got nan in row 0, \[1\]"),
    ],
)
def test_decode_refuses_a_latent_that_does_not_fit(detector, latent, words):
    """The sentence speaks of the latent, not of samples."""
    with pytest.raises(InputError, match=words):
        detector.decode(latent)


@pytest.fixture(scope="module")
def shared_detector(tmp_path_factory) -> Detector:
    """The hand-made vector model, for many examples of one property."""
    return load(tmp_path_factory.mktemp("shared"))


@given(samples=hnp.arrays(np.float64, (2, 3), elements=st.floats()))
def test_any_floats_are_scored_or_refused(shared_detector, samples):
    """Finite float32 values that the hand-made graph can square are scored, all others are refused."""
    finite = (np.abs(samples) <= np.finfo(np.float32).max).all()
    if finite and np.abs(samples).max() < 1e18:
        assert (shared_detector.score(samples).score >= 0).all()
    elif not finite:
        with pytest.raises(InputError, match="samples must be finite float32 values") as caught:
            shared_detector.score(samples)
        assert not np.abs(samples[caught.value.index]) <= np.finfo(np.float32).max


def test_score_that_is_not_finite_is_never_a_verdict(tmp_path):
    """NaN compares as below any threshold, so it is an error that names model, version and sample."""
    detector = load(tmp_path, graphs=square_root_model(), latent_shape=None)

    assert detector.score(np.array([[6, 0, 0]])).score.tolist() == [4.0]
    with pytest.raises(NonFiniteScore, match=r"^model tiny version 1 answered .* not finite for sample 1$"):
        detector.score(np.array([[6, 0, 0], [-11, 0, 0]]))
    scores = detector.score(np.array([[6, 0, 0], [-11, 0, 0]]), partial=True)
    assert scores.score[0] == 4
    assert np.isnan([scores.score[1], scores.ratio[1], scores.p_value[1]]).all()
    assert (scores.scored.tolist(), bool(scores.is_anomaly[1])) == ([True, False], True)


# --- options ------------------------------------------------------------------------------------------------


def test_score_takes_another_alpha(detector):
    """The rule of the calibration split for that rate; the default rule stays as it was."""
    result = detector.score(np.zeros((1, 3)), alpha=0.1)

    scores = detector.calibration_scores
    assert result.alpha == 0.1
    assert result.expected_rate > detector.manifest.threshold.expected_rate
    assert result.threshold == scores[round(scores.size - result.expected_rate * (scores.size + 1))]
    assert detector.score(np.zeros((1, 3))).alpha == 0.05


def test_score_names_the_smallest_alpha(detector):
    """One that this calibration cannot promise is the caller's error, with the one that it can."""
    with pytest.raises(InputError, match=r"alpha must be at least 0\.014942 with 199 calibration samples"):
        detector.score(np.zeros((1, 3)), alpha=0.01)

    assert detector.score(np.zeros((1, 3)), alpha=0.014942).alpha == 0.014942


def test_score_of_a_model_without_a_promise_takes_a_smaller_alpha(tmp_path):
    """Its rule stays the marginal one."""
    scores = load(tmp_path / "first").calibration_scores
    detector = load(tmp_path / "second", threshold=threshold_at(scores, 0.05, "none"))

    result = detector.score(np.zeros((1, 3)), alpha=0.005)

    assert (result.expected_rate, result.threshold) == (1 / 200, scores[-1])


def test_false_discovery_selection_adds_one_boolean_for_each_row(detector):
    """It changes nothing else."""
    samples = np.zeros((20, 3))
    samples[3:5, 2] = 50

    plain, result = detector.score(samples), detector.score(samples, fdr=0.1)

    assert np.flatnonzero(result.selected).tolist() == [3, 4]
    assert result.selected.shape == (20,)
    for name in ("score", "ratio", "p_value", "is_anomaly"):
        assert getattr(result, name).tobytes() == getattr(plain, name).tobytes()
    assert result.threshold == plain.threshold


@pytest.mark.parametrize("option", ["alpha", "fdr"])
@pytest.mark.parametrize("value", [0, 1, -0.1, 2, float("nan")])
def test_rates_outside_their_range_are_refused(detector, option, value):
    """Both are fractions."""
    with pytest.raises(InputError, match=f"{option} must be between 0 and 1, got"):
        detector.score(np.zeros((1, 3)), **{option: value})


# --- explanations -------------------------------------------------------------------------------------------


def test_explanation_names_the_features_that_contribute_most(tmp_path):
    """Largest first, with the value that came in and the one that the model expected."""
    detector = load(tmp_path, sample_shape=(5,))
    samples = np.array([[1, 2, 1, 0, 3]])

    (explanation,) = detector.explain(samples, 2)

    assert [(item.feature, item.index) for item in explanation] == [("e", (4,)), ("c", (2,))]
    assert [item.contribution for item in explanation] == pytest.approx([0.9, 0.1])
    assert [(item.actual, item.expected) for item in explanation] == [(3, 0), (1, 0)]


@pytest.mark.parametrize("shape", [(3,), (30,), (8, 8), (8, 8, 3)])
def test_contributions_are_shares_of_the_score(tmp_path, shape):
    """None is negative, they descend, and all of them sum to 1 at most."""
    detector = load_shape(tmp_path, shape)
    samples = np.random.default_rng(7).normal(size=(50, *shape)).astype(np.float32)
    reconstruction = detector.reconstruct(samples)

    explanations = detector.explain(samples, 10_000)

    for row, explanation in enumerate(explanations):
        shares = [item.contribution for item in explanation]
        assert len(shares) == samples[0].size
        assert shares == sorted(shares, reverse=True)
        assert min(shares) >= 0
        assert 1 - 1e-9 < sum(shares) <= 1
        assert all(item.actual == samples[row][item.index] for item in explanation)
        assert all(item.expected == reconstruction[row][item.index] for item in explanation)


def test_explanation_of_a_perfect_reconstruction_has_no_contributions(detector):
    """A score of 0 has nothing to share: every contribution is 0, in the order of the features."""
    (explanation,) = detector.explain(np.array([[1, 2, 0]]), 3)

    assert [(item.feature, item.contribution) for item in explanation] == [("a", 0), ("b", 0), ("c", 0)]


def test_explanation_of_equal_contributions_keeps_the_order_of_the_features(tmp_path):
    """The answer does not depend on a sort."""
    (explanation,) = load(tmp_path, sample_shape=(6,)).explain(np.array([[0, 0, 1, 1, 1, 1]]), 3)

    assert [item.feature for item in explanation] == ["c", "d", "e"]


def test_explanation_names_pixels_by_position(tmp_path):
    """A pixel has an index and no name."""
    image = np.zeros((1, 8, 8))
    image[0, 3, 4] = 5

    (explanation,) = load_shape(tmp_path, (8, 8)).explain(image, 1)

    assert (explanation[0].feature, explanation[0].index) == ("[3, 4]", (3, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.uint8])
def test_contributions_can_be_written_as_json(detector, dtype):
    """Numbers of Python with the digits of their dtype, whatever the samples are."""
    samples = np.array([[1, 2, 3], [0, 0, 12.3]]).astype(dtype)

    explanation = detector.explain(samples, 3)

    written = json.loads(json.dumps([[dataclasses.asdict(part) for part in row] for row in explanation]))
    share = pytest.approx(1)
    assert written[0][0] == {"feature": "c", "index": [2], "contribution": share, "actual": 3, "expected": 0}
    assert written[1][0]["actual"] == (12.3 if samples.dtype.kind == "f" else 12)
    assert all(type(part.expected) is float for row in explanation for part in row)


def test_a_pickled_detector_is_the_same_folder(detector, tmp_path):
    """Processes of joblib, multiprocessing or Spark load and verify it again."""
    samples = np.random.default_rng(0).normal(size=(20, 3))

    again = pickle.loads(pickle.dumps(detector))  # noqa: S301 our own

    assert (again.digest, again.threads) == (detector.digest, detector.threads)
    assert again.score(samples).score.tobytes() == detector.score(samples).score.tobytes()
    assert len(pickle.dumps(detector)) < 500
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (scores,) = pool.map(detector.score, [samples])
    assert scores.score.tobytes() == detector.score(samples).score.tobytes()


def test_a_pickled_detector_refuses_another_folder(tmp_path):
    """The folder was replaced meanwhile, or the detector came from no folder."""
    pickled = pickle.dumps(load(tmp_path))
    load(tmp_path, created_at="2025-02-03T04:05:06Z")

    with pytest.raises(IntegrityError, match="the pickled detector had"):
        pickle.loads(pickled)  # noqa: S301 our own
    detector = Detector.load(tmp_path)
    detector.folder = None
    with pytest.raises(TypeError, match=r"if Detector\.load opened it from a folder"):
        pickle.dumps(detector)


def test_a_detector_says_what_it_is(detector):
    """Name, version, form of a sample and the start of the digest."""
    assert repr(detector) == f"<Detector 'tiny' version 1: vector of 3, digest {detector.digest[:12]}>"


def test_explanation_shows_the_input_as_it_came(detector):
    """`actual` is the sample's own value, not its float32 rounding."""
    (explanation,) = detector.explain(np.array([[0, 0, 0.1]]), 1)

    assert explanation[0].actual == 0.1


def test_explanation_as_a_map_is_the_whole_error(tmp_path):
    """One error for each pixel; the score is their mean here."""
    detector = load_shape(tmp_path, (8, 8))
    samples = np.random.default_rng(8).normal(size=(4, 8, 8)).astype(np.float32)

    result = detector.score(samples, explain="map")

    assert result.explanation.shape == samples.shape
    np.testing.assert_allclose(result.explanation.mean(axis=(1, 2)), result.score, rtol=1e-5)


def test_explanation_changes_no_score(detector):
    """Additional outputs do not change the bits of a score."""
    samples = np.random.default_rng(9).normal(size=(300, 3)).astype(np.float32)

    plain = detector.score(samples).score.tobytes()

    assert detector.score(samples, explain=1).score.tobytes() == plain
    assert detector.score(samples, explain="map").score.tobytes() == plain


@pytest.mark.parametrize("explain", [0, -1, 1.5, "all", True])
def test_explanation_refuses_what_is_no_number_of_features(detector, explain):
    """The number is a positive integer or `map`."""
    with pytest.raises(InputError, match="explain must be a positive integer or 'map', got"):
        detector.score(np.zeros((1, 3)), explain=explain)
