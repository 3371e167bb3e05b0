"""Arrow streams and Parquet files as samples, and the limits of their inflated size."""

import io
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import bodies
from service.bodies import ARROW, CSV, JSON, PARQUET, Decoded, Expected, Limits
from service.bodies.codecs import DECODERS, decoder
from service.bodies.columnar.parquet_outline import MAX_PAGES, Outline
from service.http.problems import Problem

PROBLEMS = ("malformed-body", "invalid-input", "too-many-rows", "body-too-large")
LIMITS = Limits(max_rows=1000, max_bytes=100_000)
ROW = Expected((3,), ("a", "b", "c"), rows=True)
MIXED = Expected((3,), ("a", "b", "c"), rows=True, cells=True, texts=frozenset("b"))
SERIES = Expected((4, 2), ("x", "y"), series=True, timestamps=True)
TABLE = pa.table({"c": [3.0, 6.0], "a": pa.array([1, 4], pa.int8()), "b": pa.array([2, 5], pa.float32())})


def to_stream(table: pa.Table, compression: str | None = None, **options: object) -> bytes:
    """Return a table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    write = pa.ipc.IpcWriteOptions(compression=compression, **options)
    with pa.ipc.new_stream(sink, table.schema, options=write) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def to_parquet(table: pa.Table, **options: object) -> bytes:
    """Return a table as a Parquet file."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, **options)
    return sink.getvalue()


FORMS = {ARROW: to_stream, PARQUET: to_parquet}
forms = pytest.mark.parametrize("form", FORMS)


def decode(content: bytes, form: str, expected: Expected = ROW) -> Decoded:
    """`decoder` of a table."""
    return decoder(form, expected, LIMITS, options=())(content)


def refusal(content: bytes, form: str, expected: Expected = ROW) -> Problem:
    """Return the problem with which a table is refused."""
    with pytest.raises(Problem) as caught:
        decode(content, form, expected)
    return caught.value


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (ARROW, {}),
        (ARROW, {"compression": "lz4"}),
        (ARROW, {"compression": "zstd"}),
        (PARQUET, {}),
        (PARQUET, {"compression": "zstd", "data_page_version": "2.0"}),
        (PARQUET, {"compression": "gzip", "use_dictionary": False}),
        (PARQUET, {"compression": "none", "row_group_size": 1, "write_page_index": True}),
    ],
)
def test_columns_are_matched_by_name(form, options):
    """Columns may have any order and any numeric type, whatever the writer."""
    np.testing.assert_array_equal(decode(FORMS[form](TABLE, **options), form).samples, [[1, 2, 3], [4, 5, 6]])


@forms
def test_columns_of_one_type_keep_it(form):
    """Float32 stays float32, as in a `.npy`."""
    table = pa.table({name: pa.array([1.5, 2.5], pa.float32()) for name in "abc"})

    assert decode(FORMS[form](table), form).samples.dtype == np.float32


@forms
def test_mixed_tables_have_texts_and_gaps(form):
    """Texts may come as dictionaries, as pandas' categories do."""
    words = pa.array(["run", None, "run"]).dictionary_encode()
    table = pa.table({"a": [1.5, None, float("nan")], "b": words, "c": pa.array([0, 7, None], pa.int64())})

    rows = decode(FORMS[form](table), form, MIXED).samples
    plain = decode(FORMS[form](table.set_column(1, "b", words.cast(pa.string()))), form, MIXED).samples

    for samples in (rows, plain):
        assert samples.dtype == object
        assert samples[:, 1].tolist() == ["run", None, "run"]
        np.testing.assert_array_equal(samples[:, 0].astype(float), [1.5, np.nan, np.nan])
        np.testing.assert_array_equal(samples[:, 2].astype(float), [0, 7, np.nan])


@forms
@pytest.mark.parametrize(
    ("stamps", "wanted"),
    [
        (pa.array(["10:15", "10:20"]), ["10:15", "10:20"]),
        (pa.array(["10:15", "10:15"]).dictionary_encode(), ["10:15", "10:15"]),
        (pa.array([3, 4]), [3, 4]),
        (pa.array([0.5, 1.5]), [0.5, 1.5]),
        (pa.array([0, 60_000], pa.timestamp("ms")), ["1970-01-01 00:00:00.000", "1970-01-01 00:01:00.000"]),
    ],
    ids=["text", "dictionary", "integer", "float", "time"],
)
def test_series_may_have_time_stamps(form, stamps, wanted):
    """Points in time become texts."""
    table = pa.table({"timestamp": stamps, "y": [2, 4], "x": [1, 3]})

    decoded = decode(FORMS[form](table), form, SERIES)

    np.testing.assert_array_equal(decoded.samples, [[1, 2], [3, 4]])
    assert decoded.timestamps == wanted


@forms
@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({"b": pa.array(["x", "y"])}, ROW, "column 'b' must be integers or floats, got string"),
        ({"b": pa.array([True, False])}, ROW, "got bool"),
        ({"b": pa.array([[1.0], [2.0]])}, ROW, "got list<element: double>"),
        ({"b": pa.nulls(2)}, ROW, "got null"),
        ({"b": [1.0, 2.0]}, MIXED, "column 'b' must be texts, got double"),
        ({"b": [1.0, None]}, ROW, "'b' must be a number, got nothing in row 1; missing values are for"),
        ({"d": [1, 2]}, ROW, "it has the unknown 'd'"),
        ({"b": None}, ROW, "it lacks 'b'"),
        ({"timestamp": [1, 2]}, ROW, "it has the unknown 'timestamp'"),
    ],
)
def test_columns_that_do_not_fit_are_named(form, changes, expected, words):
    """The error has the row if only one row is wrong."""
    columns = dict(zip(TABLE.column_names, TABLE.columns, strict=True)) | changes
    table = pa.table({name: column for name, column in columns.items() if column is not None})

    problem = refusal(FORMS[form](table), form, expected)

    assert problem.type == "invalid-input"
    assert words.replace("element", "item" if form == ARROW else "element") in problem.detail


@forms
def test_time_stamps_that_are_missing_are_named(form):
    """Each step needs a time stamp, because the answer returns it."""
    table = pa.table({"timestamp": pa.array([1, None]), "y": [2, 4], "x": [1, 3]})

    assert refusal(FORMS[form](table), form, SERIES).errors[0] == {
        "detail": "'timestamp' must be a time, a text or a number in row 1",
        "row": 1,
        "column": "timestamp",
    }


@pytest.mark.parametrize(
    ("stamps", "words"),
    [
        (pa.array([0, 1], pa.timestamp("s", "Bogus/Zone")), "timestamp[s, tz=Bogus/Zone] cannot be written"),
        (pa.array([0, 1], pa.timestamp("ns", "+99:99:99")), "cannot be written as text"),
        (pa.array([(1, 2, 3), (4, 5, 6)], pa.month_day_nano_interval()), "cannot be written as text"),
        (pa.array([1, 2**64 - 1], pa.uint64()), "at most 63 bits, got 18446744073709551615 in row 1"),
        (pa.array([1, 2**63], pa.uint64()), "at most 63 bits, got 9223372036854775808 in row 1"),
    ],
    ids=["zone", "offset", "interval", "largest", "least"],
)
def test_time_stamps_that_json_cannot_hold_are_refused(stamps, words):
    """A fault of the client, not of the service."""
    problem = refusal(to_stream(pa.table({"timestamp": stamps, "y": [2, 4], "x": [1, 3]})), ARROW, SERIES)

    assert problem.type == "invalid-input"
    assert words in problem.detail


@forms
def test_rows_are_limited_before_they_are_read(form):
    """The declared number is checked first."""
    table = pa.table({name: pa.array([0] * 1001, pa.int8()) for name in "abc"})

    assert refusal(FORMS[form](table), form).type == "too-many-rows"


def test_empty_batches_count_as_rows():
    """Each empty batch takes time, and a stream could have a million."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, TABLE.schema) as stream:
        for _ in range(1001):
            stream.write_table(TABLE)
            stream.write_batch(_empty(TABLE.schema))

    assert refusal(sink.getvalue().to_pybytes(), ARROW).type == "too-many-rows"


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


BOMBS: dict[str, Callable[[], tuple[bytes, str]]] = {
    "arrow-text": lambda: (to_stream(_text_bomb(), compression="zstd"), ARROW),
    "arrow-dictionary": lambda: (to_stream(_dictionary_bomb(20_000_000, 1), compression="lz4"), ARROW),
    "arrow-shared-text": lambda: (to_stream(_dictionary_bomb(60_000, 900)), ARROW),
    "parquet-text": lambda: (to_parquet(_text_bomb(), compression="zstd"), PARQUET),
    "parquet-dictionary": lambda: (
        to_parquet(_dictionary_bomb(50_000_000, 1), compression="zstd", write_statistics=False),
        PARQUET,
    ),
    "parquet-shared-text": lambda: (
        to_parquet(_dictionary_bomb(60_000, 900), write_statistics=False),
        PARQUET,
    ),
}


def _text_bomb() -> pa.Table:
    return pa.table({"a": [1.0], "b": ["x" * 50_000_000], "c": [1]})


def _dictionary_bomb(length: int, rows: int) -> pa.Table:
    """One long text, in many rows."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int8()), pa.array(["x" * length]))
    return pa.table({"a": np.zeros(rows), "b": words, "c": np.zeros(rows)})


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_inflated(name):
    """Tens of MB of text in 100 KB, compressed, in a dictionary, or written once for many rows."""
    content, form = BOMBS[name]()
    assert len(content) < LIMITS.max_bytes
    pool, before = pa.default_memory_pool(), pa.total_allocated_bytes()
    peak = pool.max_memory()
    tracemalloc.start()

    problem = refusal(content, form, MIXED)

    assert problem.type == "body-too-large"
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    assert pool.max_memory() - max(peak, before) < 3_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "options", [{}, {"data_page_size": 1000}, {"data_page_version": "2.0", "compression": "zstd"}]
)
def test_parquet_pages_are_counted_as_they_are(options):
    """The sizes of the pages add up to the size in the footer."""
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=5000), "y": np.arange(5000) % 7, "z": ["word"] * 5000})
    content = to_parquet(table, row_group_size=1000, **options)
    metadata = pyarrow.parquet.ParquetFile(io.BytesIO(content)).metadata
    groups = map(metadata.row_group, range(5))
    wanted = sum(group.column(column).total_uncompressed_size for group in groups for column in range(3))

    outline = Outline(content)
    sizes = list(outline.page_sizes())

    assert outline.rows == 5000
    assert len(sizes) > 15 == len(outline.chunks)
    assert 0.8 * wanted < sum(sizes) <= wanted  # the footer counts the heads of pages, too


def test_parquet_pages_are_limited():
    """An empty page takes time, too."""
    head = bytes([0x15, 0, 0x15, 0, 0x15, 0, 0])
    outline = Outline(to_parquet(TABLE))
    outline._content = head * (MAX_PAGES + 1)
    outline.chunks = [(0, len(outline._content))]

    with pytest.raises(ValueError, match="may have at most 100000 pages"):
        list(outline.page_sizes())


def test_parquet_that_would_end_the_process_is_refused():
    """A statistic of another size than pyarrow expects ended it, in the wrong call."""
    content = to_parquet(pa.table({"a": [1.5], "b": ["run"], "c": [0]}))
    for position in range(content.rindex(b"ARROW:schema") - 900, len(content) - 8):
        for value in (0, 0x15, 0x25, 0x16, 0xFF):
            changed = bytearray(content)
            changed[position] = value
            try:
                decode(bytes(changed), PARQUET, MIXED)
            except Problem as problem:
                assert problem.type in PROBLEMS  # noqa: PT017


@forms
@pytest.mark.parametrize("content", [b"x", b"PAR1", b"\xff\xff\xff\xff\0\0\0\0", bytes(100), b"PAR1" * 30])
def test_broken_tables_are_malformed(form, content):
    """The problem is one line."""
    problem = refusal(content, form)

    assert problem.type == "malformed-body"
    assert "\n" not in problem.detail


def test_stream_with_something_behind_its_end_is_malformed():
    """Bytes after the end are refused."""
    assert "3 bytes follow its end" in refusal(to_stream(TABLE) + b"abc", ARROW).detail


@forms
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_bytes_changed_are_read_or_refused(form, data):
    """Only problems are raised."""
    options = {ARROW: {"compression": "lz4"}, PARQUET: {}}[form]
    content = bytearray(FORMS[form](TABLE, **options))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        samples = decode(bytes(content), form).samples
    except Problem as problem:
        assert problem.type in PROBLEMS  # noqa: PT017
    else:
        assert samples.shape[1:] == (3,)


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    """Such a body is not read, and its media type is not offered."""
    monkeypatch.setattr(bodies, "HAS_PYARROW", False)

    problem = refusal(to_stream(TABLE), ARROW)

    assert problem.type == "unsupported-media-type"
    assert problem.detail.endswith("needs the extra arrow, which is not installed here")
    assert ARROW not in problem.detail.partition("got")[0]
    assert ROW.media_types() == (JSON, "application/x-npy", "application/octet-stream", CSV)
    assert set(ROW.media_types()) < {JSON, *DECODERS}


def test_service_starts_without_pyarrow():
    """It is imported for the first body that needs it."""
    code = "import service.wsgi.app, service.asgi.front, sys; assert 'pyarrow' not in sys.modules"

    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"})
