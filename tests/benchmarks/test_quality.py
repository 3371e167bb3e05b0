"""The benchmark of detection quality splits as published, compares fairly and runs missing rows only."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import environments, quality
from benchmarks.errors import BenchmarkError
from benchmarks.measures.comparison import compare, overview, tables
from benchmarks.protocols import parity, promise, tabular
from benchmarks.protocols.base import DataSet, Protocol
from benchmarks.protocols.baselines import BASELINES, run_baseline
from benchmarks.protocols.tabular import LabelledTable, f1_at_k, read_table, split_t1, split_t2
from detector.calibration import promised_rank

ROOT = Path(__file__).parents[2]


def table(n_normal, n_anomalies, columns=3):
    """Return normal rows round 0 and anomalies round 4, mixed."""
    rng = np.random.default_rng(0)
    is_anomaly = rng.permutation(np.arange(n_normal + n_anomalies) < n_anomalies)
    return LabelledTable(
        "drawn", rng.normal(size=(is_anomaly.size, columns)) + 4 * is_anomaly[:, None], is_anomaly
    )


def write(path, data):
    """Write a set in the documented form."""
    np.savez(path, X=data.samples, y=data.is_anomaly.astype(int))
    return path


def row(name, method, *, seed=0, digest="d", **figures):
    """Return a row as an earlier run wrote it."""
    start = {"protocol": "T2", "set": name, "seed": seed, "method": method}
    seconds = {"fit_seconds": 0.1, "score_seconds": 0.1}
    return start | {"auroc": 0.5, "ap": 0.5, "f1": 0.5} | seconds | figures | {"data": digest}


# --- splits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 3])
def test_t2_shuffles_the_normal_rows_and_fits_on_half_of_them(seed):
    """An independent copy of the definition in QUALITY gives the same split; odd counts round to even."""
    data = table(45, 7)

    _, parts = split_t2(data, seed)

    normal = np.random.RandomState(seed).permutation(np.flatnonzero(data.is_anomaly == 0))
    np.testing.assert_array_equal(parts.train, normal[: round(0.5 * len(normal))])
    np.testing.assert_array_equal(
        parts.test, [*normal[round(0.5 * len(normal)) :], *np.flatnonzero(data.is_anomaly)]
    )
    assert parts.train.size == 22


def test_t1_keeps_the_order_of_the_file_and_draws_small_sets_to_a_thousand_rows():
    """The published split: rows may be fitted on and tested, too."""
    data = table(90, 10)

    drawn, parts = split_t1(data, 5)

    rows = np.random.RandomState(5).choice(100, 1000, replace=True)
    np.testing.assert_array_equal(drawn.samples, data.samples[rows])
    normal = np.flatnonzero(~data.is_anomaly[rows])
    np.testing.assert_array_equal(np.concatenate([parts.train, parts.normal]), normal)
    assert parts.train.size == round(0.5 * normal.size)


def test_large_sets_are_cut_to_fifty_thousand_rows():
    """Drawn without replacement; a set of just so many is left alone."""
    data = table(50_010, 40, columns=1)

    cut, parts = split_t2(data, 1)

    rows = np.random.RandomState(1).choice(50_050, 50_000, replace=False)
    np.testing.assert_array_equal(cut.samples, data.samples[rows])
    assert parts.train.size + parts.test.size == 50_000
    assert tabular.at_most(cut, 1) is cut


def test_t3_fits_on_fewer_of_the_same_rows_and_tests_on_all_others():
    """The test rows of T2 are a subset of those of T3, and calibration rows come from the rest."""
    data = table(100, 9)
    _, wide = split_t2(data, 2)

    _, narrow = promise.split_t3(data, 2)

    np.testing.assert_array_equal(narrow.train, wide.train[:40])
    np.testing.assert_array_equal(narrow.test[10:], wide.test)


# --- metrics ------------------------------------------------------------------------------------------------


def test_f1_flags_as_many_rows_as_there_are_anomalies():
    """Rows that tie at the edge count by their share: the mean over every order of them."""
    is_anomaly = np.array([0, 0, 1, 1, 1, 0], dtype=bool)

    assert f1_at_k(is_anomaly, np.array([1, 2, 3, 4, 5, 6.0])) == pytest.approx(2 / 3)
    assert f1_at_k(is_anomaly, np.array([1, 1, 1, 1, 1, 1.0])) == pytest.approx(0.5)
    assert f1_at_k(is_anomaly, np.array([0, 3, 3, 9, 8, 3.0])) == pytest.approx((2 + 1 / 3) / 3)


def test_promise_is_broken_as_often_as_a_naive_count_says():
    """Ranks and thresholds equal those of `Detector`; too few calibration rows give no guarantee."""
    rng = np.random.default_rng(1)
    normal, anomalies = rng.normal(size=300), rng.normal(2, size=50)

    found = dict(promise.realised(normal, anomalies, 100, 0.05, seed=4))

    deal, rates, recalls = np.random.default_rng(4), [], []
    for _ in range(20):
        order = deal.permutation(normal)
        threshold = sorted(order[:100], reverse=True)[promised_rank(100, 0.05) - 1]
        rates.append(np.mean(order[100:] > threshold))
        recalls.append(np.mean(anomalies > threshold))
    assert found["broken"] == np.mean(np.array(rates) > 0.05)
    assert found["rate"] == pytest.approx(np.mean(rates), abs=1e-6)
    assert found["recall"] == pytest.approx(np.mean(recalls), abs=1e-6)
    assert set(dict(promise.realised(normal, anomalies, 58, 0.05, seed=4)).values()) == {None}


def test_parity_names_differences_of_scores_and_decisions():
    """A decision at the threshold may differ by rounding; one far from it may not."""
    scores, expected = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0002, 3.0])

    found = parity.compare_scores(scores, expected, 2.0, 2.0)

    assert found["score_difference"] == pytest.approx(1 / 3)
    assert found["difference_at_threshold"] == pytest.approx(1 / 5)
    assert (found["decisions_differing"], found["decisions_differing_clearly"]) == (1, 0)


# --- baselines ----------------------------------------------------------------------------------------------


def test_neighbour_baselines_are_distances_to_standardised_training_rows():
    """A naive loop gives the same distances: first, fifth, and mean of five squares."""
    rng = np.random.default_rng(2)
    train, test = rng.normal(3, 5, size=(40, 4)), rng.normal(size=(9, 4))
    mean, spread = train.mean(axis=0), train.std(axis=0)
    near = [
        sorted(np.linalg.norm((one - mean) / spread - (other - mean) / spread) for other in train)
        for one in test
    ]

    scores = {name: run_baseline(name, train, test, 0).scores for name in ("knn1", "knn5", "dte-np")}

    np.testing.assert_allclose(scores["knn1"], [distances[0] for distances in near])
    np.testing.assert_allclose(scores["knn5"], [distances[4] for distances in near])
    np.testing.assert_allclose(scores["dte-np"], [np.mean(np.square(distances[:5])) for distances in near])


def test_pca_keeps_a_component_to_measure_the_distance_to():
    """One component is left out even if 95 % of the variance takes all; else scores are rounding errors."""
    train = np.random.default_rng(3).normal(size=(400, 3))

    scores = run_baseline("pca", train, train, 0).scores

    assert np.median(scores) > 1e-3
    assert np.isfinite(run_baseline("pca", train[:, :1], train[:, :1], 0).scores).all()


@pytest.mark.parametrize("method", BASELINES)
def test_every_baseline_scores_anomalies_higher(method):
    """Few rows and a constant column do not matter."""
    data = table(30, 4)
    train = np.column_stack([data.samples[~data.is_anomaly], np.ones(30)])
    test = np.column_stack([data.samples, np.ones(34)])

    scores = run_baseline(method, train, test, 0).scores

    assert scores[data.is_anomaly].mean() > scores[~data.is_anomaly].mean()


# --- comparison ---------------------------------------------------------------------------------------------


def test_methods_are_compared_over_what_all_of_them_have():
    """Means over shared seeds; a set that a method lacks is left out and counted; ties share a rank."""
    rows = [
        *(row("2_a", method, auroc=value) for method, value in [("residual", 0.9), ("knn5", 0.7)]),
        row("2_a", "residual", seed=1, auroc=0.1),
        *(row("10_b", method, auroc=0.6) for method in ("residual", "knn5")),
        row("3_c", "knn5", auroc=0.8),
    ]

    found = compare(rows, "auroc", ("residual", "lof", "knn5"))

    assert (found.sets, found.methods, found.n_left_out) == (("2_a", "10_b"), ("residual", "knn5"), 1)
    np.testing.assert_allclose(found.values, [[0.9, 0.7], [0.6, 0.6]])
    np.testing.assert_allclose(found.ranks, [1.25, 1.75])
    assert found.against("knn5")[:2] == (1, 0)


@pytest.mark.parametrize(("lower_is_better", "counts"), [(False, (5, 1)), (True, (1, 5))])
def test_wilcoxon_test_is_the_exact_one_of_few_sets(lower_is_better, counts):
    """Six differences, one of them against: of 64 signs 2 * 3 are as extreme."""
    gains = [0.1, 0.2, 0.3, 0.4, 0.5, -0.15]
    rows = [row(f"{number}_s", "knn5", auroc=0.2) for number in range(6)]
    rows += [row(f"{number}_s", "residual", auroc=0.2 + gain) for number, gain in enumerate(gains)]

    found = compare(rows, "auroc", ("residual", "knn5"), lower_is_better=lower_is_better)

    better, worse, p_value = found.against("knn5")
    assert (better, worse) == counts
    assert p_value == pytest.approx(6 / 64)


def test_sets_at_chance_are_named():
    """A set is named if the method is at chance but a neighbour-based method is not."""
    rows = [
        *(row("a", method, auroc=value) for method, value in [("residual", 0.52), ("knn1", 0.7)]),
        *(row("b", method, auroc=value) for method, value in [("residual", 0.52), ("knn1", 0.5)]),
    ]

    (line,) = tabular.at_chance(rows)

    assert line.endswith("a (0.520, 0.700)")


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"X": np.ones((9, 2))}, "must hold the arrays X and y, got X"),
        ({"X": np.ones(9), "y": np.zeros(9)}, "X must hold numbers of shape (n, columns), got float64"),
        ({"X": np.ones((9, 2)), "y": np.zeros((9, 1))}, "y must hold 0 and 1 of shape (9,), got float64"),
        ({"X": np.full((9, 2), np.nan), "y": np.zeros(9)}, "must be finite, got nan in row 0, column 0"),
        ({"X": np.ones((9, 2)), "y": np.arange(9)}, "y must be 0 (normal) or 1 (anomaly), got 2"),
        ({"X": np.ones((9, 2)), "y": np.zeros(9)}, "at least 4 normal rows and 1 anomaly, got 9 and 0"),
        ({"X": np.array([["a"]]), "y": np.zeros(1)}, "X must hold numbers"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name(tmp_path, arrays, sentence):
    """The error lists the arrays that the file must have and those that it has."""
    path = tmp_path / "other.npz"
    np.savez(path, **arrays)

    with pytest.raises(BenchmarkError) as refused:
        read_table(path)
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("other.npz")


@pytest.mark.parametrize("protocol", ["T2", "S1", "S3", "S4", "I1", "I5"])
def test_a_folder_of_broken_files_is_reported_file_by_file(protocol, tmp_path, capsys):
    """No protocol measures anything."""
    (tmp_path / "bad.npz").write_bytes(b"no archive")

    assert (
        quality.main(["--protocol", protocol, "--out", f"{tmp_path}/o.json", "--data-dir", str(tmp_path)])
        == 1
    )
    assert "not measured: bad.npz cannot be read as an .npz" in capsys.readouterr().err


def test_a_broken_file_keeps_no_other_from_being_measured(tmp_path, capsys):
    """It is named at the end, and so is one of another form."""
    write(tmp_path / "good.npz", table(20, 3))
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    out = tmp_path / "out.json"
    arguments = ["--protocol", "T2", "--methods", "pca", "--seeds", "0", "--out", str(out)]

    assert quality.main([*arguments, "--data-dir", str(tmp_path)]) == 1
    assert [row["set"] for row in json.loads(out.read_text())["rows"]] == ["good"]
    said = capsys.readouterr().err
    assert "not measured: bad.npz cannot be read as an .npz" in said
    assert "not measured: other.npz must hold the arrays X and y, got values" in said


def test_a_folder_without_sets_is_refused(tmp_path, capsys):
    """A folder that does not exist is refused, too."""
    out = tmp_path / "out.json"
    arguments = ["--protocol", "T2", "--out", str(out), "--data-dir"]
    (tmp_path / "empty").mkdir()

    assert quality.main([*arguments, str(tmp_path / "empty")]) == 1
    assert "must hold .npz files, got none" in capsys.readouterr().err
    assert quality.main([*arguments, str(tmp_path / "none")]) == 1
    assert "--data-dir must be a folder" in capsys.readouterr().err
    assert not out.exists()


# --- runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A folder of two sets."""
    (tmp_path / "sets").mkdir()
    write(tmp_path / "sets" / "1_small.npz", table(40, 5))
    write(tmp_path / "sets" / "2_large.npz", table(60, 8))
    return tmp_path / "sets"


def test_rows_are_measured_printed_and_drawn(folder, tmp_path, capsys):
    """The rows have the documented form; the method `knn` uses the fifth neighbour."""
    out = tmp_path / "new" / "out.json"
    arguments = ["--protocol", "T2", "--data-dir", str(folder), "--methods", "knn,pca", "--seeds", "0,1"]

    assert quality.main([*arguments, "--out", str(out)]) == 0

    rows = json.loads(out.read_text())["rows"]
    assert [(one["set"], one["seed"], one["method"]) for one in rows[:4]] == [
        ("1_small", 0, "knn5"),
        ("1_small", 0, "pca"),
        ("1_small", 1, "knn5"),
        ("1_small", 1, "pca"),
    ]
    wanted = ["protocol", "set", "seed", "method", "auroc", "ap", "f1", "fit_seconds", "score_seconds"]
    assert list(rows[0])[:9] == wanted
    assert (rows[0]["n_train"], rows[0]["n_test"], rows[0]["n_anomalies"]) == (20, 25, 5)
    printed = capsys.readouterr().out
    assert "### auroc over 2 sets" in printed
    assert "| average rank |" in printed
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_what_is_there_is_not_run_again(folder, tmp_path, capsys):
    """A second run keeps existing rows, unless the data changed or a rerun is requested."""
    out = tmp_path / "out.json"
    digest = quality.PROTOCOLS["T2"].find(folder)[0].digest
    other = row("1_small", "knn5", auroc=0.125, digest=digest) | {"protocol": "T9"}
    quality.write_rows(out, [row("1_small", "knn5", auroc=0.25, digest=digest), other])
    arguments = ["--protocol", "T2", "--data-dir", str(folder), "--methods", "knn", "--seeds", "0"]
    arguments += ["--out", str(out)]

    quality.main(arguments)
    rows = json.loads(out.read_text())["rows"]
    assert [(one["set"], one["auroc"] == 0.25) for one in rows] == [
        ("1_small", True),
        ("1_small", False),
        ("2_large", False),
    ]

    write(folder / "1_small.npz", table(44, 5))
    quality.main(arguments)
    assert "1_small seed 0 knn5" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["rows"]) == 4

    quality.main([*arguments, "--again", "knn"])
    rows = json.loads(out.read_text())["rows"]
    assert [one["protocol"] for one in rows] == ["T9", "T2", "T2"]


def test_rows_of_t1_are_taken_over_for_its_large_sets(tmp_path, capsys):
    """T1b is T1 without the sets that are drawn to size."""
    write(tmp_path / "small.npz", table(40, 5))
    write(tmp_path / "large.npz", table(995, 5))
    out = tmp_path / "out.json"
    arguments = ["--data-dir", str(tmp_path), "--methods", "knn", "--seeds", "0", "--out", str(out)]

    quality.main(["--protocol", "T1", *arguments])
    capsys.readouterr()
    quality.main(["--protocol", "T1b", *arguments])

    rows = json.loads(out.read_text())["rows"]
    assert [(one["protocol"], one["set"]) for one in rows] == [
        ("T1", "small"),
        ("T1", "large"),
        ("T1b", "large"),
    ]
    assert "seed 0 knn5:" not in capsys.readouterr().out


def test_what_cannot_be_measured_does_not_stop_the_rest(tmp_path, monkeypatch, capsys):
    """It has no row, a sentence, and the exit status 1; the next run tries it again."""

    def measure(loaded, seed, method):
        if method == "knn5":
            raise BenchmarkError("knn5 answers 3 scores that are not finite")
        return {"auroc": 0.7, "fit_seconds": 0.0, "score_seconds": 0.0}

    sets = [DataSet("one", "d", lambda: None)]
    methods = ("residual", "knn5")
    drawn = Protocol("drawn", ("auroc",), methods, methods, lambda folder: sets, measure)
    monkeypatch.setitem(quality.PROTOCOLS, "drawn", drawn)
    out = tmp_path / "out.json"

    status = quality.main(["--protocol", "drawn", "--quick", "--out", str(out)])

    assert status == 1
    assert [one["method"] for one in json.loads(out.read_text())["rows"]] == ["residual"]
    message = "not measured: knn5 on one, seed 0: knn5 answers 3 scores that are not finite"
    assert message in capsys.readouterr().err


def test_scores_that_are_not_finite_are_an_error(monkeypatch):
    """They do not become 0, which would count as the most normal row."""
    monkeypatch.setitem(
        BASELINES, "knn5", lambda train, seed: lambda rows: np.log(rows[:, 0] * 0 - [1, 0, 0])
    )

    with (
        np.errstate(divide="ignore", invalid="ignore"),
        pytest.raises(BenchmarkError, match="knn5 answers 3 scores that are not finite"),
    ):
        tabular.score_table("knn5", np.arange(20.0).reshape(10, 2), np.ones((3, 2)), 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--protocol", "T2"], "--data-dir must name the folder of the sets"),
        (["--protocol", "T9", "--quick"], "invalid choice: 'T9'"),
        (["--protocol", "T2", "--quick", "--methods", "knn,svm"], "methods must be among residual, "),
        (
            ["--protocol", "T2", "--quick", "--seeds", "0,x"],
            "must be integers of at least 0 separated by commas",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(tmp_path, capsys, arguments, sentence):
    """Bad usage ends with one sentence before anything runs."""
    with pytest.raises(SystemExit, match="2"):
        quality.main([*arguments, "--out", str(tmp_path / "out.json")])

    assert sentence in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["T1", "T1b", "T2", "T3", "X"])
def test_quick_run_needs_no_data(tmp_path, protocol):
    """Our own model is fitted, exported and scored with the other methods; the graph equals its network."""
    out = tmp_path / "out.json"

    assert quality.main(["--protocol", protocol, "--quick", "--out", str(out)]) == 0

    rows = json.loads(out.read_text())["rows"]
    ours = [one for one in rows if one["method"] == "residual"]
    if protocol in ("T1", "T2"):
        assert [one["set"] for one in ours] == ["wine", "breast-cancer"]
        assert min(one["auroc"] for one in ours) > 0.9
    if protocol == "T3":
        assert ours[0]["n_calibration"] >= 59
        assert ours[0]["rate_5"] < 0.05
    if protocol == "X":
        assert max(one["difference_at_threshold"] for one in ours) <= 1e-4
        assert sum(one["decisions_differing_clearly"] for one in ours) == 0


def test_denoising_finds_images_and_holds_the_best_linear_filter_against_ours(tmp_path):
    """A set for each file and level of noise; other images are refused by name."""
    rng = np.random.default_rng(0)
    images = np.clip(rng.normal(120, 40, size=(60, 1, 1)) + np.zeros((1, 6, 6)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "flat.npz", x_train=images[:40], x_test=images[40:])
    out = tmp_path / "out.json"
    arguments = ["--protocol", "I4", "--data-dir", str(tmp_path), "--methods", "wiener,noisy"]

    assert quality.main([*arguments, "--out", str(out)]) == 0

    rows = json.loads(out.read_text())["rows"]
    psnr = {(one["set"], one["method"]): one["psnr"] for one in rows}
    assert set(psnr) == {(f"flat-noise-{n}", method) for n in (0.3, 0.5) for method in ("wiener", "noisy")}
    assert psnr["flat-noise-0.3", "noisy"] == pytest.approx(-20 * np.log10(0.3), abs=0.6)
    assert psnr["flat-noise-0.3", "wiener"] > psnr["flat-noise-0.3", "noisy"] + 5
    np.savez(tmp_path / "flat.npz", x_train=images[:40] / 255, x_test=images[40:])
    assert quality.main([*arguments, "--out", str(out)]) == 1


@pytest.mark.slow
def test_denoising_runs_through_the_service(tmp_path):
    """The run takes a few epochs on digits of scikit-learn."""
    out = tmp_path / "out.json"

    assert quality.main(["--protocol", "I4", "--quick", "--out", str(out)]) == 0

    psnr = {one["method"]: one["psnr"] for one in json.loads(out.read_text())["rows"]}
    assert psnr["residual"] > psnr["noisy"]


# --- contenders ---------------------------------------------------------------------------------------------


@pytest.fixture
def contenders(tmp_path, monkeypatch):
    """A folder of scripts, and one of environments."""
    monkeypatch.setattr(environments, "SCRIPTS", tmp_path / "scripts")
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "environments")
    (tmp_path / "scripts").mkdir()
    return tmp_path / "scripts"


def made(contenders, name):
    """An environment that is this one."""
    (contenders / f"{name}.txt").write_text("numpy\n")
    folder = environments.ENVIRONMENTS / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / environments.READY).write_text("numpy\n")


def test_a_contender_reads_rows_and_writes_scores(contenders):
    """A contender runs in its own process; changed requirements need a new environment."""
    made(contenders, "sums")
    (contenders / "sums.py").write_text(
        "import sys\nimport numpy as np\nrows, seed, scores = sys.argv[1:]\narrays = np.load(rows)\n"
        "answer = arrays['test'].sum(axis=1) + float(seed) + len(arrays['train'])\n"
        "np.savez(scores, scores=answer, fit_seconds=1.5, score_seconds=0.5)\n"
    )

    scores, fit_seconds, score_seconds = environments.run_contender(
        "sums", np.ones((3, 2)), np.ones((4, 2)), 7
    )

    np.testing.assert_array_equal(scores, [12, 12, 12, 12])
    assert (fit_seconds, score_seconds) == (1.5, 0.5)
    assert environments.is_made("sums")
    (contenders / "sums.txt").write_text("numpy\nscipy\n")
    assert not environments.is_made("sums")


def test_a_contender_that_fails_says_why(contenders):
    """The error has the last line of the output."""
    made(contenders, "broken")
    (contenders / "broken.py").write_text("raise SystemExit('no such model')\n")

    with pytest.raises(BenchmarkError, match="broken failed: no such model"):
        environments.run_contender("broken", np.ones((3, 2)), np.ones((4, 2)), 0)


@pytest.mark.slow
def test_an_environment_that_cannot_be_made_is_an_error(contenders):
    """A failed environment does not count as made afterwards."""
    (contenders / "odd.txt").write_text("./no-such-wheel.whl\n")

    with pytest.raises(BenchmarkError, match="the environment of odd cannot be made: "):
        environments.environment("odd")
    assert not environments.is_made("odd")


# --- published results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["T1", "T1b", "T2"])
def test_tables_of_the_page_are_those_of_the_results(name):
    """Means, medians, ranks and tests, of T2 also every set, line by line, from the committed rows."""
    rows = json.loads((ROOT / "benchmarks" / "results" / f"quality-{name[:2]}.json").read_text())["rows"]
    rows = [one for one in rows if one["protocol"] == name]
    present = {one["method"] for one in rows}
    methods = [method for method in tabular.ALL_METHODS if method in present]

    compared = [compare(rows, metric, methods) for metric in tabular.METRICS]
    lines = overview(compared) + (tables(compared[:1]) if name == "T2" else [])

    page = (ROOT / "docs" / "quality.md").read_text()
    assert [line for line in lines if line.startswith("|") and line not in page] == []


@pytest.mark.parametrize("name", ["T3", "X"])
def test_sentences_of_the_page_are_those_of_the_results(name):
    """The page has every sentence that the benchmark prints below its tables."""
    rows = json.loads((ROOT / "benchmarks" / "results" / f"quality-{name}.json").read_text())["rows"]

    page = (ROOT / "docs" / "quality.md").read_text()
    assert [line for line in quality.PROTOCOLS[name].summary(rows) if line not in page] == []
