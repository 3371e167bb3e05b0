"""Times of any common form are read, and the steps of a series put in order."""

import numpy as np
import pyarrow as pa
import pytest

from detector.reading import Reading
from training.data.load import load_dataset
from training.data.times import order_times, read_times
from training.errors import DataError


def read(*columns, time_format=None):
    """Read columns of times; a column is a list of its cells."""
    arrays = [pa.chunked_array([cells]) for cells in columns]
    return read_times(
        arrays, "time column 't'", lambda row: f"row {row + 1}", Reading(time_format=time_format)
    )


def texts_of(times):
    """Write points in time as texts."""
    return np.datetime_as_string(times.values, unit="auto").tolist()


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020/01/31 12:00", "2020-01-31T12:00"),
        ("2020.1.31 3:05:06.25", "2020-01-31T03:05:06.250"),
        ("2020. 1. 31. 오전 12:30", "2020-01-31T00:30"),
        ("2020. 1. 31. 오후 1:00:05", "2020-01-31T13:00:05"),
        ("2020년 1월 31일 13시 5분", "2020-01-31T13:05"),
        ("2020-01-31 1:00 PM", "2020-01-31T13:00"),
        ("2020-01-31 12:15am", "2020-01-31T00:15"),
        ("2020-01-31 24:00", "2020-02-01"),
        ("20200131_1230", "2020-01-31T12:30"),
        ("20200131T123000", "2020-01-31T12:30"),
        ("2020/01", "2020-01-01"),
    ],
)
def test_texts_whose_year_comes_first_are_local_times(text, time):
    """They need no format, and have no zone."""
    times = read([text])

    assert (texts_of(times), times.is_local) == ([time], True)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020-01-31 09:00 KST", "2020-01-31"),
        ("2020-07-31 09:00 CEST", "2020-07-31T07:00"),
        ("2020/01/31 09:00 -05:30", "2020-01-31T14:30"),
        ("2020-07-31 09:00 Europe/Paris", "2020-07-31T07:00"),
        ("2020-01-31T09:00+09:00[Asia/Seoul]", "2020-01-31"),
        ("20200131T093000Z", "2020-01-31T09:30"),
    ],
)
def test_texts_with_a_zone_become_utc(text, time):
    """A zone is an offset, an abbreviation with one meaning, or a name."""
    times = read([text])

    assert (texts_of(times), times.is_local) == ([time], False)


@pytest.mark.parametrize(
    ("cells", "time", "note"),
    [
        (
            [19580329, 19580405],
            "1958-03-29",
            "holds times written as digits: 19580329 is 1958-03-29T00:00:00",
        ),
        (["195803", "195804"], "1958-03-01", "195803 is 1958-03-01T00:00:00"),
        (["2020013123", "2020020100"], "2020-01-31T23:00", "2020013123 is 2020-01-31T23:00:00"),
        (["202001012400", "202001020100"], "2020-01-02", "202001012400 is 2020-01-02T00:00:00"),
        (["20200131093005"], "2020-01-31T09:30:05", "20200131093005 is 2020-01-31T09:30:05"),
        (
            ["1580000000", "1580000060"],
            "2020-01-26T00:53:20",
            "holds seconds since 1970: 1580000000 is 2020-01",
        ),
        ([1580000000123, 1580000060123], "2020-01-26T00:53:20.123", "holds milliseconds since 1970"),
        ([1580000000.5], "2020-01-26T00:53:20.500", "holds seconds since 1970"),
    ],
)
def test_digits_that_are_times_are_read_as_times(cells, time, note):
    """A note says so."""
    times = read(cells)

    assert texts_of(times)[0] == time
    assert note in times.notes[0]


@pytest.mark.parametrize("cells", [[20200130, 20200132], [202013, 202101], [17, 19], ["0.5", "0.75"]])
def test_other_numbers_stay_numbers(cells):
    """A day that is not in the calendar makes a column one of numbers."""
    times = read(cells)

    assert times.values.tolist() == list(map(float, cells))
    assert times.notes == ()


@pytest.mark.parametrize(
    ("columns", "time"),
    [
        ((["2020-01-31"], ["09:30"]), "2020-01-31T09:30"),
        ((["20200131"], ["0930"]), "2020-01-31T09:30"),
        ((["2020/01/31"], ["오후 3:05"]), "2020-01-31T15:05"),
        (([np.datetime64("2020-01-31", "us").item()], [5]), "2020-01-31T05:00"),
    ],
)
def test_date_and_time_of_day_may_be_two_columns(columns, time):
    """They are read as one text."""
    assert texts_of(read(*columns)) == [time]


@pytest.mark.parametrize(
    ("text", "time_format", "time"),
    [
        ("31/01/2020 10:00", "%d/%m/%Y %H:%M", "2020-01-31T10:00"),
        ("31.01.20 오후 1:00", "%d.%m.%y %p %I:%M", "2020-01-31T13:00"),
        ("01022020", "%d%m%Y", "2020-02-01"),
        ("86400", "s", "1970-01-02"),
        ("86400500", "ms", "1970-01-02T00:00:00.500"),
    ],
)
def test_other_times_need_a_format(text, time_format, time):
    """It is one of strptime, or a unit of the time since 1970."""
    assert texts_of(read([text], time_format=time_format)) == [time]


@pytest.mark.parametrize(
    ("cells", "time_format", "message"),
    [
        (["2020-01-31", "31/01/2020"], None, "got '31/01/2020' in row 2"),
        (["31/01/2020 10:00"], None, "give their format: --time-format '%d/%m/%Y %H:%M'$"),
        (["01/02/2020"], None, "--time-format %d/%m/%Y or --time-format %m/%d/%Y$"),
        (
            ["soon"],
            None,
            "whose year comes first, .* got 'soon' in row 1; give their format with --time-format",
        ),
        (["2020-01-31 10:00 XXT"], None, "got '2020-01-31 10:00 XXT'"),
        (["2020-01-31 00:00 KST", "2020-02-01"], None, "all have a zone or all have none, .* in row 2"),
        (["17", "x"], None, "must hold numbers, as in its first row, got 'x' in row 2"),
        (["2020-01-31"], "%d.%m.%Y", "must have the format '%d.%m.%Y', got '2020-01-31' in row 1"),
        ([True], None, "must hold times or numbers, got bool"),
        ([np.inf], None, "must be finite, got inf in row 1"),
    ],
)
def test_what_is_no_time_is_refused_with_its_row(cells, time_format, message):
    """The error suggests formats that the texts have."""
    with pytest.raises(DataError, match=message):
        read(cells, time_format=time_format)


def order(cells, zone=None, groups=None):
    """Read times and put them in order: the rows, the times as texts, the notes."""
    groups = np.zeros(len(cells), dtype=np.int64) if groups is None else np.array(groups)
    rows, values, notes = order_times(read(cells), groups, zone, "time column 't'")
    return rows.tolist(), np.datetime_as_string(values, unit="m").tolist(), notes


def test_newest_first_is_turned_round():
    """Each entity keeps its rows together."""
    days = ["2020-01-03", "2020-01-03", "2020-01-02", "2020-01-02", "2020-01-01"]
    rows, _, notes = order(days, groups=[0, 1, 0, 1, 0])

    assert rows == [4, 2, 0, 3, 1]
    assert notes == ("time column 't': the rows are newest first and were turned round",)


REPEATED = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]


@pytest.mark.parametrize("step", [1, -1])
def test_the_repeated_hour_is_told_apart_by_its_zone(step):
    """Its second pass begins where the time goes back, also in a file that is newest first."""
    cells = [f"2020-10-25 {clock}" for clock in REPEATED][::step]
    hours = ["23:30", "00:00", "00:30", "01:00", "01:30", "02:00"]

    assert [text[-5:] for text in order(cells, "Europe/Berlin")[1]] == hours


def test_hourly_times_repeat_one():
    """Equal times within the repeated hour are its two passes; other zones have another hour."""
    cells = ["2020-11-01 00:00", "2020-11-01 01:00", "2020-11-01 01:00", "2020-11-01 02:00"]

    assert [text[11:13] for text in order(cells, "America/New_York")[1]] == ["04", "05", "06", "07"]


@pytest.mark.parametrize(
    ("cell", "zone", "message"),
    [
        (
            "2020-03-29 02:30",
            "Europe/Berlin",
            "local times of --time-zone Europe/Berlin: Timestamp doesn't exist",
        ),
        ("2020-03-29 02:30", "Europe/Nowhere", "Cannot locate or parse timezone 'Europe/Nowhere'"),
    ],
)
def test_a_time_that_is_not_in_its_zone_is_refused(cell, zone, message):
    """In spring clocks leave out an hour."""
    with pytest.raises(DataError, match=message):
        order([cell], zone)


# --- files --------------------------------------------------------------------------------------------------


def load(path, rows, reading=None, **columns):
    """Load a table of times and values as a series."""
    path.write_text("\n".join(rows) + "\n")
    return load_dataset(str(path), kinds=["sequence"], reading=reading, **columns)


def test_files_keep_leading_zeros_of_times(tmp_path):
    """The columns of a time are texts, whatever they look like."""
    dataset = load(tmp_path / "a.csv", ["d,t,v", "20200131,0005,1", "20200131,0010,2"], time_column="d,t")

    assert dataset.timeline.describe()["first_time"] == "2020-01-31T00:05:00"
    assert dataset.timeline.usual_step == 300
    assert dataset.feature_names == ("v",)


def test_a_column_of_times_may_have_no_name(tmp_path):
    """An empty name is a name."""
    assert load(tmp_path / "a.csv", [",v", "2020-01-31,1", "2020-02-01,2"], time_column="").feature_names == (
        "v",
    )


def test_times_that_go_back_have_a_reason(tmp_path):
    """Within an hour it is the repeated one, which a zone explains; else the rows are mixed."""
    rows = ["t,v", *(f"2020-10-25 {clock},{value}" for value, clock in enumerate(REPEATED))]

    with pytest.raises(
        DataError, match=r"got 2020-10-25T02:00:00 after 2020-10-25T02:30:00 .* --time-zone Europe"
    ):
        load(tmp_path / "a.csv", rows, time_column="t")
    dataset = load(tmp_path / "a.csv", rows, Reading(time_zone="Europe/Berlin"), time_column="t")
    assert dataset.timeline.usual_step == 1800
    assert dataset.reading.time_zone == "Europe/Berlin"
    with pytest.raises(DataError, match="sort the rows, or name the series with --entity-column"):
        load(
            tmp_path / "a.csv",
            ["t,v", "2020-10-25,1", "2020-10-26,2", "2020-10-24,3", "2020-10-25,1"],
            Reading(),
            time_column="t",
        )


def test_the_usual_step_is_one_that_takes_time(tmp_path):
    """Three rows a minute have intervals of zero; a hole of thirty days is a gap all the same."""
    minutes = np.datetime64("2020-01-01T00:00") + np.arange(60).repeat(3)
    minutes[90:] += np.timedelta64(30, "D")
    timeline = load(
        tmp_path / "a.csv",
        ["t,v", *(f"{minute},{row}" for row, minute in enumerate(minutes))],
        time_column="t",
    ).timeline

    assert timeline.usual_step == 60
    assert timeline.gaps().size == 1
