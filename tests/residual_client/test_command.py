"""`residual` on files: the same bytes from a service and from a model folder, whatever the file."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from detector.sources import array_names
from residual_client import chunks
from residual_client.__main__ import KEY_VARIABLE, main
from tests.residual_client.conftest import KEY

N_ROWS = 230
NAMES = ("c", "a", "b")


@pytest.fixture(scope="module")
def values():
    """Rows for `tiny`, columns a, b, c."""
    return np.random.default_rng(5).normal(size=(N_ROWS, 3))


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Make chunks small, so that every file of these tests takes several."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 64)
    monkeypatch.setattr(chunks, "CHUNK_IMAGES", 3)


@pytest.fixture
def ways(url, store):
    """Arguments that name a model, by a service and by a folder."""
    return lambda name: {
        "url": ["--url", url, "--model", name],
        "folder": ["--model", f"{store.root}/{name}", "--threads", "1"],
    }


@pytest.fixture
def both(ways, tmp_path, capsys):
    """Runs a command both ways; the bytes that both wrote."""

    def run(verb, files, model="tiny", out="out.csv", options=()):
        written = {}
        for way, who in ways(model).items():
            path = tmp_path / f"{way}-{out}"
            files = [files] if isinstance(files, str | Path) else files
            status = main([verb, *map(str, files), *who, "--out", str(path), *options])
            assert status == 0, capsys.readouterr().err
            written[way] = path.read_bytes()
        assert written["url"] == written["folder"]
        assert not list(tmp_path.glob(".*"))
        return written["url"]

    return run


def write_csv(path, values, delimiter=","):
    """Write columns in another order than the model's, and one that is no feature."""
    rows = [[*row[[2, 0, 1]].tolist(), f"pump, {number}"] for number, row in enumerate(values)]
    quoted = [[*map(repr, row[:3]), f'"{row[3]}"'] for row in rows]
    lines = [delimiter.join(row) for row in [[*NAMES, "tag"], *quoted]]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_lines(path, rows):
    """Write one JSON value on each line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path, columns):
    """Write a table."""
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def scores_of(content):
    """Return the column `score` of a CSV."""
    return [float(row["score"]) for row in csv.DictReader(content.decode().splitlines())]


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "objects", "arrays", "npy", "npz"])
def test_every_file_scores_as_its_rows(both, detectors, values, tmp_path, form):
    """Scores are equal to the last digit and in order, even where one chunk meets the next."""
    columns = {name: values[:, "abc".index(name)] for name in NAMES}
    objects = [dict(zip(NAMES, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    npy, npz = tmp_path / "rows.npy", tmp_path / "rows.npz"
    np.save(npy, values)
    np.savez(npz, Features=values, label=np.zeros(N_ROWS), mean=np.zeros(3))
    write = {
        "csv": lambda: write_csv(tmp_path / "rows.csv", values),
        "tsv": lambda: write_csv(tmp_path / "rows.TSV", values, "\t"),
        "parquet": lambda: write_parquet(tmp_path / "rows.parquet", columns),
        "objects": lambda: write_lines(tmp_path / "rows.ndjson", objects),
        "arrays": lambda: write_lines(tmp_path / "rows.jsonl", values.tolist()),
        "npy": lambda: npy,
        "npz": lambda: npz,
    }
    options = ["--keep", "tag"] if form in ("csv", "tsv") else []

    content = both("score", write[form](), options=options)

    assert scores_of(content) == detectors["tiny"].score(values).score.tolist()


def test_lines_of_csv(both, detectors, values, tmp_path):
    """Row, kept columns, decisions; a cell with a comma is quoted."""
    header, first, *_, last = (
        both("score", write_csv(tmp_path / "rows.csv", values), options=["--keep", "tag", "--alpha", "0.1"])
        .decode()
        .splitlines()
    )

    scores = detectors["tiny"].score(values, alpha=0.1)
    assert header == "row,tag,score,ratio,p_value,is_anomaly"
    flag = str(scores.is_anomaly[0]).lower()
    assert (
        first
        == f'0,"pump, 0",{scores.score[0]!r},{scores.ratio[0]!r},{scores.p_value[0]!r},{flag}'.replace(
            "np.float64(", ""
        ).replace(")", "")
    )
    assert last.startswith(f'{N_ROWS - 1},"pump, {N_ROWS - 1}",')


def test_parquet_holds_the_rows_of_the_csv(both, values, tmp_path):
    """With types: kept texts, whole row numbers, true and false; explanations are JSON as in CSV."""
    options, file = ["--keep", "tag", "--explain", "1"], write_csv(tmp_path / "rows.csv", values)
    rows = list(csv.DictReader(both("score", file, options=options).decode().splitlines()))

    table = pyarrow.parquet.read_table(pa.BufferReader(both("score", file, out="o.parquet", options=options)))

    assert table.column_names == list(rows[0])
    assert [str(field.type) for field in table.schema][:3] == ["int64", "string", "double"]
    assert table["score"].to_pylist() == [float(row["score"]) for row in rows]
    assert table["is_anomaly"].to_pylist() == [row["is_anomaly"] == "true" for row in rows]
    for name in ("tag", "explanation"):
        assert table[name].to_pylist() == [row[name] for row in rows]


def test_parquet_without_anomalies_still_has_its_columns(both, tmp_path):
    """And chunks without any before the first one do not decide the types."""
    rows = np.zeros((N_ROWS, 3))
    options = ["--anomalies-only", "--keep", "tag"]
    content = both("score", write_csv(tmp_path / "a.csv", rows), out="a.parquet", options=options)
    assert pyarrow.parquet.read_table(pa.BufferReader(content)).num_rows == 0
    rows[200] = 99

    content = both("score", write_csv(tmp_path / "b.csv", rows), out="b.parquet", options=options)

    table = pyarrow.parquet.read_table(pa.BufferReader(content))
    assert table.select(["row", "tag", "is_anomaly"]).to_pylist() == [
        {"row": 200, "tag": "pump, 200", "is_anomaly": True}
    ]


def test_lines_of_json(both, detectors, values, tmp_path):
    """An object each, with its explanation; anomalies alone where asked."""
    path = write_csv(tmp_path / "rows.csv", values)
    options = ["--keep", "tag", "--explain", "1", "--anomalies-only"]
    rows = [json.loads(line) for line in both("score", path, out="out.ndjson", options=options).splitlines()]

    expected = detectors["tiny"].score(values, explain=1)
    flagged = np.flatnonzero(expected.is_anomaly)
    assert 0 < len(flagged) < N_ROWS
    assert [row["row"] for row in rows] == flagged.tolist()
    assert rows[0].keys() == {"row", "tag", "score", "ratio", "p_value", "is_anomaly", "explanation"}
    assert rows[0]["explanation"][0]["actual"] == values[flagged[0], 2]


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("score", lambda detector, rows: detector.score(rows).score),
        ("denoise", lambda detector, rows: detector.reconstruct(rows)),
        ("encode", lambda detector, rows: detector.encode(rows)),
        ("classify", lambda detector, rows: detector.classify(rows).probability),
    ],
)
def test_array_is_that_of_the_detector(both, detectors, values, tmp_path, verb, expected):
    """Written chunk by chunk, its length known at the end only."""
    both(verb, write_csv(tmp_path / "rows.csv", values), out="out.npy", options=["--keep", "tag"])

    array, wanted = np.load(tmp_path / "url-out.npy"), expected(detectors["tiny"], values)
    assert array.dtype == wanted.dtype
    assert np.array_equal(array, wanted)


@pytest.mark.parametrize(
    ("verb", "header"),
    [
        ("denoise", "row,a,b,c"),
        ("encode", "row,latent_0,latent_1"),
        ("classify", "row,label,low,high"),
    ],
)
def test_other_answers_have_columns(both, values, tmp_path, verb, header):
    """Columns have the names of features and of classes."""
    path = tmp_path / "rows.npy"
    np.save(path, values)

    assert both(verb, path).decode().splitlines()[0] == header


def test_words_and_gaps(both, detectors, tmp_path):
    """Cells of a table are read as in a fit."""
    rows = ["a,b,c", "1.5,idle,0", ",run,2.5", "NA,stop,7", "1e300,idle,0", "2,,"]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(rows[:4] + rows[5:]))
    expected = [[1.5, "idle", 0], [None, "run", 2.5], [None, "stop", 7], [2, None, None]]

    assert scores_of(both("score", path, "mixed")) == detectors["mixed"].score(expected).score.tolist()
    lines = write_lines(tmp_path / "rows.ndjson", [dict(zip("abc", row, strict=True)) for row in expected])
    assert scores_of(both("score", lines, "mixed")) == detectors["mixed"].score(expected).score.tolist()
    columns = dict(zip("abc", zip(*expected, strict=True), strict=True))
    table = write_parquet(tmp_path / "rows.parquet", {name: list(cells) for name, cells in columns.items()})
    assert scores_of(both("score", table, "mixed")) == detectors["mixed"].score(expected).score.tolist()
    assert b"\n1,0.0,run,0\n" in both("denoise", path, "mixed")
    assert both("encode", path, "mixed").startswith(b"row,latent_0,latent_1\n0,1.5,0.0\n")


def test_series_is_scored_in_one_piece(both, detectors, tmp_path):
    """Tables, lines and arrays of steps are one request; windows are sent in chunks."""
    series = np.random.default_rng(6).normal(size=N_ROWS)
    table, array, windows = tmp_path / "june.csv", tmp_path / "june.npy", tmp_path / "windows.npy"
    table.write_text(
        "when,a\n" + "".join(f"10:{step},{value!r}\n" for step, value in enumerate(series.tolist()))
    )
    np.save(array, series)
    np.save(windows, np.lib.stride_tricks.sliding_window_view(series, 4))
    lines = write_lines(tmp_path / "june.ndjson", series.tolist())

    expected = detectors["pulse"].score(series).score.tolist()
    assert scores_of(both("score", table, "pulse", options=["--keep", "when"])) == expected
    assert scores_of(both("score", array, "pulse")) == expected
    assert scores_of(both("score", lines, "pulse")) == expected
    assert len(scores_of(both("score", windows, "pulse"))) == N_ROWS - 3
    assert both("encode", array, "pulse").decode().startswith("window,latent_0,latent_1\n0,")


def test_images_are_named(both, tmp_path):
    """Images of a folder and its sub-folders are sorted by name; listed images keep their order."""
    pixels = np.random.default_rng(7).integers(0, 256, (7, 4, 5), dtype=np.uint8)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    paths = [tmp_path / "in" / ("deep" if number % 2 else "") / f"{number}.png" for number in range(7)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    (tmp_path / "in" / "notes.txt").write_text("no image")

    folder = both("score", tmp_path / "in", "images").decode().splitlines()
    some = both("score", [paths[2], paths[0]], "images").decode().splitlines()

    assert [line.split(",")[0] for line in folder[1:]] == sorted(map(str, paths))
    assert [line.split(",")[0] for line in some[1:]] == [str(paths[2]), str(paths[0])]
    assert some[1] in folder
    both("denoise", tmp_path / "in", "images", out="out.npy")
    assert np.load(tmp_path / "url-out.npy").shape == (7, 4, 5)


def test_images_of_any_size_and_format_are_resized_alike(both, detectors, tmp_path):
    """Masks and hidden files are left out; the service, the folder and `read_images` agree."""
    rng = np.random.default_rng(8)
    sizes = {"a.png": (40, 30), "b.jpg": (9, 9), "c.bmp": (4, 5), "d.tif": (3, 2), "e.webp": (64, 64)}
    paths = [tmp_path / "in" / name for name in sizes]
    (tmp_path / "in" / "masks").mkdir(parents=True)
    for path, size in zip(paths, sizes.values(), strict=True):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / "in" / "masks" / f"{path.stem}.png")
    (tmp_path / "in" / "._a.png").write_bytes(b"of a Mac")

    lines = both("score", tmp_path / "in", "photos").decode().splitlines()[1:]

    assert [line.split(",")[0] for line in lines] == list(map(str, paths))
    samples = detectors["photos"].read_images(paths)
    np.testing.assert_array_equal(samples, detectors["photos"].read_images([p.read_bytes() for p in paths]))
    expected = detectors["photos"].score(samples).score
    np.testing.assert_allclose([float(line.split(",")[1]) for line in lines], expected, rtol=1e-12)


def test_stdout_holds_answers_and_stderr_the_rest(ways, values, tmp_path, capsys):
    """The standard output holds only answers, so that it can be piped."""
    path = tmp_path / "rows.npy"
    np.save(path, values)
    for who in ways("tiny").values():
        assert main(["score", str(path), *who]) == 0
        printed = capsys.readouterr()
        assert len(printed.out.splitlines()) == N_ROWS + 1
        assert printed.err.startswith(f"{N_ROWS} samples, ")
        assert printed.err.endswith(", threshold 1.33267, model tiny version 1\n")


FAULTS = {
    "lacking": ("rows.csv", "a,b\n1,2\n", "rows.csv lacks the column 'c' of the model's features"),
    "no header": ("rows.csv", "1,2,3\n", "features; the first line must name the columns"),
    "quotes": ("rows.csv", 'a,b,c\n1,"2" 2,3\n', "rows.csv cannot be read: "),
    "unknown": (
        "rows.csv",
        "a,b,c,d\n1,2,3,4\n",
        "has the column 'd', which is not a feature of the model: ",
    ),
    "unwritable": (
        "rows.csv",
        "a,b,c,score\n1,2,3,4\n",
        "the column 'score' cannot be kept, an answer has the same name",
    ),
    "two rows": (
        "rows.csv",
        "a,b,c,row\n1,2,3,4\n",
        "the column 'row' cannot be kept, an answer has the same name",
    ),
    "repeated": ("rows.csv", "a,b,c,a\n1,2,3,4\n", "column names must differ, got 'a' more than once"),
    "semicolons": ("rows.csv", "a;b;d\n1;2;3\n", "must have columns separated by commas, got the one"),
    "ragged": ("rows.csv", "a,b,c\n1,2,3\n1,2\n", "rows.csv, line 3: must have 3 columns, got 2"),
    "empty": ("rows.csv", "", "rows.csv is empty"),
    "header": ("rows.csv", "a,b,c\n", "rows.csv has no rows, only the columns 'a', 'b', 'c'"),
    "text": (
        "rows.csv",
        "a,b,c\n" + "1,2,3\n" * 99 + "1,x,3\n",
        "rows.csv, line 101: 'b' must be a number, got ",
    ),
    "odd": ("rows.csv", "a,b,c\n1,2,1_0\n", "rows.csv, line 2: "),
    "infinite": ("rows.csv", "a,b,c\n1,2,inf\n", "rows.csv, line 2: "),
    "gap": ("rows.csv", "a,b,c\n\n1,2,3\n1,,3\n", "rows.csv, line 4: "),
    "large": ("rows.csv", "a,b,c\n1,2,1e300\n", "got 1e+300 in row 0, c"),
    "encoding": ("rows.csv", b"a,b,c\n1,2,\xe4\xe5\xff\n", "the encoding of the text is not certain"),
    "no JSON": ("rows.ndjson", "[1,2,3]\n[1,2\n", "rows.ndjson, line 2: must be JSON: "),
    "NaN": ("rows.ndjson", "[1,2,NaN]\n", "JSON has no NaN"),
    "short": ("rows.ndjson", "[1,2,3]\n" * 70 + "[1,2]\n", "rows.ndjson, line 71: "),
    "both": (
        "rows.ndjson",
        '{"a":1,"b":2,"c":3}\n[1,2,3]\n',
        "line 2: must be an object like the other lines",
    ),
    "member": ("rows.ndjson", '{"a":1,"b":2}\n', "rows.ndjson, line 1 lacks the column 'c'"),
    "no lines": ("rows.ndjson", "\n", "rows.ndjson is empty"),
    "no npy": ("rows.npy", "hello", "rows.npy cannot be read: "),
    "no zip": ("rows.npz", "hello", "rows.npz cannot be read: "),
    "no parquet": ("rows.parquet", "hello", "rows.parquet cannot be read: "),
    "kind": ("rows.xlsx", "", "rows.xlsx must be one of .csv, .tsv, "),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["url", "folder"])
def test_fault_of_a_file_is_one_sentence(ways, tmp_path, capsys, way, fault):
    """The sentence has the place of the fault, and no output is written."""
    name, content, sentence = FAULTS[fault]
    path, out = tmp_path / name, tmp_path / "out.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    keep = {"unwritable": ["--keep", "score"], "two rows": ["--keep", "row"]}.get(fault, [])
    status = main(["score", str(path), *ways("tiny")[way], "--out", str(out), *keep])

    printed = capsys.readouterr()
    assert status == 1
    assert sentence in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["rows.npy"], 2, "give --url URL, or --model with"),
        (["rows.npy", "--model", "STORE/nope"], 1, "there is no model 'nope'"),
        (["rows.npy", "--url", "URL", "--model", "nope"], 1, "there is no model 'nope'"),
        (["rows.npy", "--url", "URL", "--model", "tiny/one"], 1, "must be NAME, NAME@LABEL or NAME/VERSION"),
        (["rows.npy", "--url", "URL", "--model", "tiny/9"], 1, "has no version 9"),
        (["rows.npy", "--url", "nowhere"], 1, "the URL must be like"),
        (["rows.npy", "--url", "URL", "--model", "images"], 1, "rows.npy: samples must have shape"),
        (["nope.npy", "--url", "URL"], 1, "there is no file"),
        (["rows.npy", "rows.npy", "--url", "URL"], 1, "several files must all be images"),
        (["rows.npy", "--url", "URL", "--keep", "a"], 1, "--keep is for columns of a table"),
        (["rows.npy", "--url", "URL", "--array", "X"], 1, "--array is for .npz files"),
        (["rows.npy", "--url", "URL", "--format", "npy"], 1, "give --out FILE"),
        (["rows.npy", "--url", "URL", "--out", "out.txt"], 1, "must end in .csv"),
        (["rows.npy", "--url", "URL", "--alpha", "2"], 1, "alpha"),
        (["rows.npy", "--model", "STORE/tiny", "--alpha", "2"], 1, "alpha"),
        (["rows.npy", "--model", "STORE/tiny", "--key-file", "rows.npy"], 1, "--key-file is for a service"),
        (["empty", "--url", "URL", "--model", "images"], 1, "must hold images"),
        (["two.npz", "--url", "URL"], 1, "has the arrays u, v: choose one with --array"),
        (["two.npz", "--url", "URL", "--array", "w"], 1, "has no array 'w', only u, v"),
        (["both.npz", "--url", "URL"], 1, "has the arrays x_train, x_test: choose one with --array"),
        (["bomb.npz", "--url", "URL"], 1, "inflates to 0.001 GB: compressed arrays may have at most"),
    ],
)
def test_usage_that_cannot_be_is_one_sentence(
    url, store, values, tmp_path, capsys, monkeypatch, options, status, sentence
):
    """The exit status is 2 if the arguments alone are wrong."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", values)
    np.savez("two.npz", u=values, v=values)
    np.savez("both.npz", x_train=values, x_test=values)
    monkeypatch.setattr(array_names, "MOST_INFLATED", 10**5)
    np.savez_compressed("bomb.npz", X=np.zeros(125_000))
    Path("empty").mkdir()
    arguments = [option.replace("URL", url).replace("STORE", str(store.root)) for option in options]

    if status == 2:
        with pytest.raises(SystemExit, match="2"):
            main(["score", *arguments])
    else:
        assert main(["score", *arguments]) == status
    assert sentence in capsys.readouterr().err


def test_key_comes_from_a_file_or_the_environment(narrow_url, values, tmp_path, monkeypatch, capsys):
    """The file takes precedence."""
    np.save(tmp_path / "rows.npy", values)
    (tmp_path / "key").write_text(f"{KEY}\n")
    command = ["score", str(tmp_path / "rows.npy"), "--url", narrow_url]

    assert main(command) == 1
    assert capsys.readouterr().err.endswith("X-API-Key: KEY; give it by --key-file or RESIDUALCTL_API_KEY\n")
    monkeypatch.setenv(KEY_VARIABLE, "other")
    assert main([*command, "--key-file", str(tmp_path / "key")]) == 0
    assert main(command) == 1
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert main(command) == 0


def test_model_may_be_a_label_or_a_version(url, store, values, tmp_path, capsys):
    """The same words select a model of a service and of a store."""
    np.save(tmp_path / "rows.npy", values)
    for model in ("tiny@canary", "tiny/2"):
        for who in (["--url", url, "--model", model], ["--model", f"{store.root}/{model}"]):
            assert main(["score", str(tmp_path / "rows.npy"), *who]) == 0
            assert "model tiny version 2" in capsys.readouterr().err


def test_reader_that_leaves_ends_the_command(store, values, tmp_path):
    """The command ends without a traceback."""
    np.save(tmp_path / "rows.npy", np.tile(values, (100, 1)))
    command = [sys.executable, "-m", "residual_client", "score", "rows.npy", "--model", f"{store.root}/tiny"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(30) == 1
    assert said == b""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_command_that_is_ended_leaves_nothing(store, values, tmp_path, kind):
    """The command leaves no partial file and shows no traceback."""
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "rows.npy", np.tile(values, (10000, 1)))
    command = [sys.executable, "-m", "residual_client", "score", "in/rows.npy", "--out", "scores.csv"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [*command, "--model", f"{store.root}/tiny"], cwd=tmp_path, env=environ, stderr=subprocess.PIPE
    ) as process:
        end = time.monotonic() + 30
        while not list(tmp_path.glob(".scores.csv-*")) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(kind)
        said = process.stderr.read()
        assert process.wait(30) == 130, said
    assert said == b"interrupted: nothing was written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_bar_is_drawn_on_a_terminal(store, values, tmp_path):
    """A terminal that does not report its size has a bar, too."""
    np.save(tmp_path / "rows.npy", np.tile(values, (200, 1)))
    command = [sys.executable, "-m", "residual_client", "score", "rows.npy", "--out", "scores.csv"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ours, theirs = os.openpty()
    try:
        subprocess.run(
            [*command, "--model", f"{store.root}/tiny"], cwd=tmp_path, env=environ, stderr=theirs, check=True
        )
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "rows.npy:   0%|" in shown
    assert "46000 samples" in shown
