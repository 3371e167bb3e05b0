"""Series become windows of one split each, and keep their times, entities and gaps."""

import dataclasses
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector import Detector
from detector.windows import SeriesWindows
from training import evaluate, fit
from training.config import FitConfig
from training.data.dataset import Dataset
from training.data.load import load_dataset
from training.data.series import GAP, Timeline
from training.data.splits import split_dataset
from training.data.windowing import cut_series, whole_windows
from training.errors import DataError
from training.figures.metrics import evaluate_steps
from training.figures.stepwise import StepRun, _touches, flagged_stretches

CONFIG = FitConfig.from_preset("conv1d")
TRAIN, VALIDATION, CALIBRATION, TEST = range(4)


def make_series(lengths, anomalous=(), times=None):
    """Entities of so many steps, each step its own number, some of the steps anomalous."""
    n_steps = sum(lengths)
    is_anomaly = np.zeros(n_steps, dtype=bool)
    is_anomaly[list(anomalous)] = True
    names = tuple(map(str, range(len(lengths))))
    timeline = Timeline(np.repeat(np.arange(len(lengths)), lengths), names, times)
    steps = np.arange(n_steps, dtype=np.float32)[:, None]
    held_out = np.zeros(n_steps, dtype=bool)
    return Dataset(steps, is_anomaly, None, held_out, "sequence", None, ("x",), "series", timeline=timeline)


def steps_of(dataset, rows):
    """Return every step that a window of these rows covers, by window."""
    return dataset.samples[rows][:, :, 0].astype(int)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(3500, 4500), min_size=1, max_size=3),
    st.sets(st.integers(0, 3499), max_size=12),
    st.sampled_from([None, 8, 20]),
)
def test_no_window_crosses_an_entity_or_a_split(lengths, anomalous, window):
    """In each entity the splits follow each other in time, and only the test has anomalies."""
    series = make_series(lengths, anomalous)
    dataset = cut_series(series, dataclasses.replace(CONFIG, window=window))
    splits = split_dataset(dataset, CONFIG)
    parts = [
        steps_of(dataset, rows) for rows in (splits.train, splits.validation, splits.calibration, splits.test)
    ]
    entity = series.timeline.entities

    for windows in parts:
        assert (np.diff(windows, axis=1) == 1).all()
        assert (entity[windows[:, 0]] == entity[windows[:, -1]]).all()
    for earlier, later in itertools.pairwise(parts):
        for number in range(len(lengths)):
            ends, begins = earlier[entity[earlier[:, 0]] == number], later[entity[later[:, 0]] == number]
            assert not ends.size or not begins.size or ends.max() < begins.min()
    for windows in parts[:3]:
        assert not series.is_anomaly[windows].any()
    for windows in parts[2:]:
        assert np.unique(windows).size == windows.size  # none overlap
    assert splits.calibration.size >= 59
    assert dataset.is_anomaly[splits.test].tolist() == series.is_anomaly[parts[3]].any(axis=1).tolist()


def test_no_window_goes_across_a_gap():
    """A step of more than ten usual ones starts a new stretch, one of ten does not."""
    times = np.arange(3000)
    times[1000:] += GAP - 1  # from step 999 to step 1000 it is ten
    times[2000:] += GAP
    series = make_series([3000], times=times)
    dataset = cut_series(series, CONFIG)
    firsts, lasts = dataset.samples[:][:, 0, 0], dataset.samples[:][:, -1, 0]

    assert series.timeline.gaps().tolist() == [GAP + 1]
    assert not ((firsts < 2000) & (lasts >= 2000)).any()
    assert ((firsts < 1000) & (lasts >= 1000)).any()
    (note,) = (note for note in dataset.notes if "gap" in note)
    assert note.startswith("1 gap in time, the largest of 11 after 2008 where 1 is usual")


@pytest.mark.parametrize("n_missing", [1, 3])
def test_no_window_holds_a_missing_value(n_missing):
    """In no split; a note counts the steps, and the windows begin anew behind them."""
    series = make_series([3000])
    series.samples[[500, 2000, 2700]] = np.nan
    series.samples[2000 : 2000 + n_missing] = np.nan
    samples, timeline, notes = series.timeline.with_missing(series.samples, ("x",), None)
    dataset = cut_series(dataclasses.replace(series, samples=samples, timeline=timeline), CONFIG)

    n_steps = 2 + n_missing
    assert notes[0].startswith(f"{n_steps} of 3000 steps have a missing value (x {n_steps}): every window")
    assert np.isfinite(dataset.samples[:]).all()
    assert set(dataset.samples[:][:, 0, 0]) >= {501.0, 2000.0 + n_missing, 2701.0}
    assert not any(timeline.is_missing[part].any() for part in dataset.cut.test_parts)
    assert timeline.describe()["n_missing_steps"] == 2 + n_missing
    assert len(whole_windows(dataclasses.replace(series, timeline=timeline), 100).samples) == 4 + 15 + 6 + 2


def test_short_runs_of_missing_values_are_interpolated():
    """Not across an entity or a gap in time, and not at an end."""
    nan = np.nan
    values = [nan, 1, nan, nan, 4, nan, nan, nan, 8, nan, nan, 2, nan, 4, nan, 6]
    times = np.array([*range(10), *range(4), 104, 105])
    timeline = Timeline(np.repeat([0, 1], [10, 6]), ("a", "b"), times)
    samples, timeline, notes = timeline.with_missing(np.array(values, np.float32)[:, None], ("x",), 2)

    left = [nan, 1, 2, 3, 4, nan, nan, nan, 8, nan, nan, 2, 3, 4, nan, 6]
    np.testing.assert_array_equal(samples[:, 0], np.array(left, np.float32))
    assert timeline.is_missing.tolist() == np.isnan(left).tolist()
    assert notes[0] == "3 missing values were interpolated, in runs of at most 2 steps"
    assert notes[1].startswith("7 of 16 steps have a missing value (x 7)")


def test_series_that_share_their_times_are_noted():
    """Several machines in one table, and no column named that tells them apart."""
    dataset = cut_series(make_series([9000], times=np.repeat(np.arange(3000), 3)), CONFIG)

    assert dataset.notes[-1] == (
        "6000 of 9000 steps have the same time as the step before: a series has one row per step; "
        "--entity-column tells several series in one table apart"
    )


def test_windows_are_as_long_as_the_promise_leaves():
    """64 steps where there are plenty, fewer in a short series, with a note."""
    assert cut_series(make_series([20_000]), CONFIG).sample_shape == (64, 1)
    short = cut_series(make_series([3000]), CONFIG)

    assert short.sample_shape == (16, 1)
    assert short.notes[0] == (
        "windows have 16 steps, and not 64 as suits the preset, for the sake of the promise: alpha 0.05 "
        "needs 59 calibration windows that do not overlap, with windows of 64 so about 9588 normal steps; "
        "choose a larger --alpha, or --window 64 with --no-promise"
    )
    free = cut_series(make_series([3000]), dataclasses.replace(CONFIG, promise=False))
    assert free.notes[0].startswith("windows have 48 steps, since the series is too short for 64")
    assert cut_series(make_series([3000]), dataclasses.replace(CONFIG, alpha=0.2)).sample_shape == (64, 1)


@pytest.mark.parametrize(("preset", "window"), [("memory-window", 128), ("memory-stream", 8)])
def test_windows_are_as_long_as_suits_a_memory(preset, window):
    """Steps that are looked up one by one need no long window, however long the series."""
    dataset = cut_series(make_series([60_000]), FitConfig.from_preset(preset))

    assert dataset.sample_shape == (window, 1)
    assert not [note for note in dataset.notes if "too short" in note]


@pytest.mark.parametrize(
    ("n_steps", "options", "message"),
    [
        (1000, {}, r"needs 59 calibration windows .* 1328 normal steps .* 1000 steps give 44 windows"),
        (
            3000,
            {"window": 64},
            "about 9588 normal steps .* 3000 steps give 18 windows: .*shorter --window, ask",
        ),
        (40, {"promise": False}, "40 steps are too few for windows of 8: 7 normal windows would be left"),
    ],
)
def test_a_series_too_short_is_refused_with_what_it_takes(n_steps, options, message):
    """The error has the windows and steps that are needed, and other options."""
    with pytest.raises(DataError, match=message):
        cut_series(make_series([n_steps]), dataclasses.replace(CONFIG, **options))


def test_without_a_promise_a_short_series_is_cut():
    """Twenty calibration windows are wanted, fewer will do."""
    dataset = cut_series(make_series([1000]), dataclasses.replace(CONFIG, promise=False, window=32))

    assert split_dataset(dataset, CONFIG).calibration.size == 12


def test_many_short_entities_are_dealt_out_whole():
    """Each entity is in one split, and entities with an anomaly are in the test."""
    series = make_series([70] * 400, anomalous=[70 * n for n in range(0, 400, 50)])
    dataset = cut_series(series, CONFIG)
    entity = series.timeline.entities[dataset.samples.starts]
    splits = split_dataset(dataset, CONFIG)

    owners = [
        set(entity[rows]) for rows in (splits.train, splits.validation, splits.calibration, splits.test)
    ]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 400
    assert set(range(0, 400, 50)) <= owners[TEST]
    assert splits.calibration.size >= 59


def test_anomalies_before_the_test_are_counted_in_a_note():
    """The note has the number of anomalies that were left out."""
    notes = cut_series(make_series([9000], anomalous=range(100, 150)), CONFIG).notes

    assert any("50 anomalous steps of 50 are before the test part" in note for note in notes)
    assert "the test part has no anomalous step: nothing measures how many are found" in notes


def test_training_windows_are_bounded():
    """--rows limits them by a larger stride; --stride is used as given."""
    few = cut_series(make_series([20_000]), dataclasses.replace(CONFIG, rows=500))
    strided = cut_series(make_series([20_000]), dataclasses.replace(CONFIG, stride=7))

    assert (few.cut.split_of == TRAIN).sum() <= 500
    assert few.cut.training_stride > 1
    assert strided.cut.training_stride == 7
    assert any("begin every" in note for note in few.notes)


def test_windows_are_those_of_their_array():
    """Indexing by position, slice and array of positions gives the same windows."""
    steps = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = SeriesWindows(steps, 3, np.array([0, 3, 7]))
    whole = np.stack([steps[start : start + 3] for start in (0, 3, 7)])

    assert windows.shape == whole.shape
    for rows in (1, slice(1, None), np.array([2, 0])):
        np.testing.assert_array_equal(windows[rows], whole[rows])
    np.testing.assert_array_equal(np.asarray(windows), whole)


def test_whole_windows_need_one():
    """A series for a published model must have at least one window."""
    assert len(whole_windows(make_series([130]), 64).samples) == 2
    with pytest.raises(DataError, match="at least the 64 steps of one window, got 63"):
        whole_windows(make_series([63, 20]), 64)


# --- files --------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    """Writes a table of lines."""

    def write_lines(*lines):
        path = tmp_path / "series.csv"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return write_lines


def load(path, **columns):
    """Load a table as `--kind sequence` does."""
    return load_dataset(path, kinds=["sequence"], **columns)


@pytest.mark.parametrize(
    ("times", "first", "usual"),
    [
        (("2024-01-01 00:00:00", "2024-01-01 00:05:00"), "2024-01-01T00:00:00", 300),
        (("2024-01-01T02:00:00+02:00", "2024-01-01T02:05:00+02:00"), "2024-01-01T00:00:00", 300),
        (("2024-01-01", "2024-01-02"), "2024-01-01T00:00:00", 86400),
        (("2024-01-01 00:00:00.25", "2024-01-01 00:00:00.50"), "2024-01-01T00:00:00.250000", 0.25),
        (("17", "19"), "17", 2),
        (("0.5", "0.75"), "0.5", 0.25),
    ],
)
def test_times_are_points_in_time_or_numbers(write, times, first, usual):
    """Texts of ISO 8601, dates, numbers; zones become UTC."""
    timeline = load(write("t,v", f"{times[0]},1", f"{times[1]},2"), time_column="t").timeline

    assert timeline.time_text(0) == first
    assert timeline.usual_step == usual
    assert timeline.describe()["first_time"] == first


def test_entities_keep_their_order_of_time(write):
    """Rows of several entities may be mixed in any order."""
    path = write("t,who,v", "1,b,10", "1,a,20", "2,b,11", "2,a,21")
    dataset = load(path, time_column="t", entity_column="who")

    assert dataset.samples.ravel().tolist() == [10, 11, 20, 21]
    assert dataset.timeline.names == ("b", "a")
    assert dataset.feature_names == ("v",)
    assert [(part.start, part.stop) for part in dataset.timeline.stretches()] == [(0, 2), (2, 4)]


@pytest.mark.parametrize(
    ("lines", "columns", "message"),
    [
        (
            ("t,v", "2,1", "1,2", "3,3"),
            {"time_column": "t"},
            "must not go back, got 1 after 2 in row 1 .line 3.",
        ),
        (
            ("t,w,v", "2,a,1", "1,b,2", "1,a,3", "3,a,4"),
            {"time_column": "t", "entity_column": "w"},
            "must not go back within 'a', got 1 after 2 in row 2 .line 4.",
        ),
        (("t,v", "2024-01-01,1", ",2"), {"time_column": "t"}, "time column 't' is empty in row 1"),
        (
            ("t,v", "soon,1", "now,2"),
            {"time_column": "t"},
            "year comes first, .* got 'soon' in row 0 .line 2.",
        ),
        (("t,v", "1,1", "2,"), {"time_column": "t"}, "column 'v' has 1 missing value, the first in row 1"),
        (("t,v", "1,1"), {"time_column": "u"}, "has no column 'u', only 't', 'v'"),
        (
            ("t,v", "1,1"),
            {"time_column": "t", "columns": ["t"]},
            "cannot be a feature and the label, time or entity",
        ),
        (("t,v", "2024-01-01,1"), {}, "for a series give --kind sequence --time-column t"),
    ],
)
def test_bad_series_are_refused_with_the_place(write, lines, columns, message):
    """The error has row and line, as for other tables."""
    with pytest.raises(DataError, match=message):
        load(write(*lines), **columns)


def test_times_are_for_series(write):
    """Rows of a table that are not taken as a series have no time."""
    with pytest.raises(DataError, match="only for a series in a table: also give --kind sequence"):
        load_dataset(write("t,v", "1,1"), time_column="t")


def test_npy_of_one_or_two_dimensions_is_a_series(tmp_path):
    """An array of three dimensions holds windows."""
    for name, shape, steps in (("a", (30,), (30, 1)), ("b", (30, 2), (30, 2)), ("c", (30, 8, 2), None)):
        np.save(tmp_path / f"{name}.npy", np.zeros(shape))
        dataset = load(str(tmp_path / f"{name}.npy"))

        assert (dataset.timeline is not None) == (steps is not None)
        assert dataset.samples.shape == (steps or shape)


# --- from a table to a published folder ---------------------------------------------------------------------


TIME_FORMAT = "%d.%m.%Y %H:%M"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two pumps of 2,200 steps, ten minutes apart, the last hundred of the first without their rhythm."""
    rng = np.random.default_rng(0)
    lines = ["when,pump,flow,level,fault"]
    for pump in ("north", "south"):
        phase = np.arange(2200) * 2 * np.pi / 24
        flow, level = np.sin(phase), np.cos(phase) + rng.normal(0, 0.05, size=2200)
        fault = np.zeros(2200, dtype=int)
        if pump == "north":
            flow[-100:], fault[-100:] = rng.normal(0, 1, size=100), 1
        times = np.datetime64("2024-03-01T00:00:00") + np.arange(2200) * np.timedelta64(10, "m")
        lines += [
            f"{t.item():{TIME_FORMAT}},{pump},{a:.4f},{b:.4f},{f}"
            for t, a, b, f in zip(times, flow, level, fault, strict=True)
        ]
    path = tmp_path_factory.mktemp("series") / "pumps.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(table):
    """A model of both pumps."""
    store = table.parent / "models"
    arguments = ["--data", str(table), "--kind", "sequence", "--time-column", "when", "--epochs", "4"]
    arguments += ["--time-format", TIME_FORMAT, "--time-zone", "Europe/Berlin"]
    arguments += ["--entity-column", "pump", "--label-column", "fault", "--store", str(store)]
    assert fit.main([*arguments, "--window", "12", "--merge", "mean", "--rows", "600"]) == 0
    return store / "pumps" / "1"


@pytest.mark.slow
def test_published_series_model_scores_a_whole_series(folder):
    """The manifest has window, stride, merge rule and channels, and each step gets a score."""
    detector = Detector.load(folder)
    manifest = detector.manifest

    assert (manifest.kind, manifest.window, manifest.stride, manifest.merge) == ("sequence", 12, 1, "mean")
    assert manifest.feature_names == ("flow", "level")
    assert detector.score(np.zeros((40, 2))).score.shape == (40,)
    assert manifest.data["series"]["n_entities"] == 2
    assert manifest.data["series"]["usual_step"] == 600
    assert manifest.data["series"]["first_time"] == "2024-02-29T23:00:00"  # UTC


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "window"), [("memory-window", 24), ("memory-stream", 8)])
def test_a_memory_of_a_series_is_published_and_explains(table, tmp_path, preset, window):
    """Two pumps' rhythm is remembered: a step of flow that is off is found and named."""
    arguments = ["--data", str(table), "--kind", "sequence", "--time-column", "when", "--preset", preset]
    arguments += ["--entity-column", "pump", "--label-column", "fault", "--store", str(tmp_path)]
    arguments += ["--time-format", TIME_FORMAT]
    assert fit.main([*arguments, "--latent-dim", "0", "--prototypes", "100"]) == 0

    detector = Detector.load(tmp_path / "pumps" / "1")
    phase = np.arange(100) * 2 * np.pi / 24
    steps = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    spoiled = steps.copy()
    spoiled[60, 0] += 3
    explained = detector.explain(spoiled, 1)[60][0]

    assert detector.manifest.window == window
    assert detector.manifest.verbs == ("score", "denoise")
    assert not detector.score(steps).is_anomaly.any()
    assert detector.score(spoiled).is_anomaly[60]
    assert explained.feature == "flow"
    assert explained.contribution > 0.3


@pytest.mark.slow
def test_report_lists_the_flagged_stretches_of_the_test_part(folder):
    """Stretches have entity and times, and the report has figures of steps and of windows."""
    figures = json.loads((folder / "report.json").read_bytes())
    page = (folder / "report.html").read_text()
    faults = [stretch for stretch in figures["flagged"] if stretch["n_anomalous"]]

    assert figures["evaluation"]["steps"]["n_anomalies"] == 100
    assert figures["evaluation"]["steps"]["roc_auc"] > 0.9
    assert figures["evaluation"]["n_anomalies"] == 8
    assert {stretch["entity"] for stretch in faults} == {"north"}
    assert faults[0]["first_time"] >= "2024-03-15T11:10:00"  # a mean knows a window ahead
    assert "Test part over time" in page
    assert faults[0]["first_time"] in page


@pytest.mark.slow
def test_published_model_is_evaluated_on_a_series(folder, table, tmp_path, capsys):
    """Time and entity columns are found, times read as in the fit, and each step has its own label."""
    reading = Detector.load(folder).manifest.reading
    assert (reading.time_format, reading.time_zone) == (TIME_FORMAT, "Europe/Berlin")
    out = tmp_path / "figures.json"
    assert evaluate.main([str(folder), str(table), "--label-column", "fault", "--json", str(out)]) == 0
    figures = json.loads(out.read_bytes())

    assert figures["data"]["n_samples"] == 2 * (2200 // 12)
    assert figures["steps"]["n_steps"] == 4400
    assert figures["steps"]["n_anomalies"] == 100
    assert figures["flagged"][0]["entity"] in ("north", "south")
    assert "flagged stretches: " in capsys.readouterr().out


def test_parquet_times_of_any_unit_are_read(tmp_path):
    """Times may be nanoseconds, seconds with a zone, or dates."""
    kinds = (pa.timestamp("ns"), pa.timestamp("s", "Europe/Berlin"), pa.date32())
    for kind in kinds:
        times = pa.array([np.datetime64("2024-01-01", "s"), np.datetime64("2024-01-02", "s")]).cast(kind)
        pyarrow.parquet.write_table(pa.table({"t": times, "v": [1.0, 2.0]}), tmp_path / "series.parquet")
        timeline = load(str(tmp_path / "series.parquet"), time_column="t").timeline

        assert timeline.describe()["first_time"] == "2024-01-01T00:00:00"
        assert timeline.usual_step == 86400


def test_step_figures_are_those_of_plain_counting():
    """Ties count half in the ranking."""
    score, is_anomaly = np.array([1.0, 2, 2, 3]), np.array([False, False, True, True])
    touches = np.array([False, False, True, True])
    figures = evaluate_steps(score, score > 1.5, is_anomaly, touches)

    assert figures["false_alarm_rate"] == 0.5
    assert figures["recall"] == 1
    assert figures["roc_auc"] == 3.5 / 4
    assert (figures["n_clear"], figures["false_alarm_rate_clear"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("stride", "merge", "touched"),
    [(1, "last", range(10, 14)), (2, "last", range(10, 14)), (1, "mean", range(7, 14))],
)
def test_a_step_touches_an_anomaly_that_its_windows_hold(stride, merge, touched):
    """`last` uses the windows that end with the step, `mean` all around it; a stride makes blocks."""
    is_anomaly = np.zeros(30, dtype=bool)
    is_anomaly[10] = True
    manifest = SimpleNamespace(window=4, stride=stride, merge=merge)

    assert np.flatnonzero(_touches(is_anomaly, manifest)).tolist() == list(touched)


def test_flagged_stretches_end_with_their_part():
    """Steps that follow each other are one stretch, but not across a gap."""
    series = make_series([6], anomalous=[4], times=np.array([0, 1, 2, 30, 31, 32]))
    flagged = np.array([False, True, True, True, True, False])
    score = np.arange(6.0)
    run = StepRun(
        np.arange(6),
        np.repeat([0, 1], 3),
        series.samples,
        series.samples,
        score,
        flagged,
        series.is_anomaly,
        series.is_anomaly,
    )
    stretches = flagged_stretches(run, series)

    assert [(s["first_time"], s["last_time"], s["n_steps"]) for s in stretches] == [
        ("1", "2", 2),
        ("30", "31", 2),
    ]
    assert [(s["highest_score"], s["n_anomalous"]) for s in stretches] == [(2, 0), (4, 1)]


def test_calibration_windows_begin_in_every_phase_of_a_cycle():
    """Two windows of 24 in a day of 48 steps would always begin at the same two times of the day."""
    dataset = cut_series(make_series([9000]), dataclasses.replace(CONFIG, window=24))
    calibration = dataset.samples.starts[dataset.cut.split_of == CALIBRATION]

    assert set((calibration % 48).tolist()) == set(range(48))
    assert (np.diff(calibration) == 25).all()
