"""Bodies in odd types and shapes: an answer or a problem of the client's, and never a failure."""

import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from detector import ModelStore
from service.bodies import ARROW, NPY, PARQUET, RAW
from service.settings import Settings
from service.wsgi.app import EXTENSION, create_app
from tests.model_folder import MIXED, publish_model

MODELS = {"row": "abc", "mixed": "abc", "series": "ab"}
UNITS = ("s", "ms", "us", "ns")
ZONES = (None, "", "UTC", "Asia/Seoul", "+09:00", "-99:99", "Bogus/Zone", "é", "\0", "A" * 300)

fuzzed = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> FlaskClient:
    """A client of `row`, of `mixed` with texts and gaps, and of `series` with time stamps."""
    store = ModelStore(tmp_path_factory.mktemp("fuzz") / "models")
    publish_model(store, "row")
    publish_model(store, "mixed", **MIXED)
    publish_model(store, "series", kind="sequence", sample_shape=(4, 2))
    app = create_app(Settings.from_environ({"RESIDUAL_STORE": str(store.root), "RESIDUAL_MAX_ROWS": "50"}))
    yield app.test_client()
    app.extensions[EXTENSION].models.stop()


def post(client: FlaskClient, model: str, verb: str, form: str, body: bytes) -> int:
    """Post a body and return the status, which is the client's fault or none."""
    response = client.post(f"/models/{model}/{verb}", data=body, content_type=form)

    assert response.status_code in (200, 400, 413, 415, 422), response.get_data(as_text=True)
    return response.status_code


# --- tables -------------------------------------------------------------------------------------------------

_INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
_PLAIN = [*_INTEGERS, pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.null(), pa.date32()]
_PLAIN += [pa.date64(), pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary_view()]
_PLAIN += [pa.month_day_nano_interval(), pa.decimal128(5, 2), pa.list_(pa.float64()), pa.binary(3)]
_PLAIN += [
    pa.map_(pa.string(), pa.int8()),
    pa.struct([("a", pa.int8())]),
    pa.dense_union([pa.field("a", pa.int8())]),
]

arrow_types = st.one_of(
    st.sampled_from([pa.float64(), pa.string(), pa.int64(), pa.uint64()]),
    st.sampled_from(_PLAIN),
    st.builds(pa.timestamp, st.sampled_from(UNITS), st.sampled_from(ZONES[:-3])),
    st.builds(pa.duration, st.sampled_from(UNITS)),
    st.builds(pa.time32, st.sampled_from(UNITS[:2])),
    st.builds(pa.time64, st.sampled_from(UNITS[2:])),
    st.builds(pa.dictionary, st.sampled_from(_INTEGERS), st.sampled_from([pa.string(), pa.int8()])),
)


@st.composite
def arrays(draw: st.DrawFn, kind: pa.DataType, n_rows: int) -> pa.Array:
    """Any bits as values of the type where that is possible, with or without missing values."""
    missing = draw(st.sampled_from([0, 0, 1, n_rows]))
    if pa.types.is_dictionary(kind):
        words = pa.array(["run", "x" * 20, None][:n_rows] if pa.types.is_string(kind.value_type) else [1, 2])
        indices = pa.array([row % max(1, len(words)) for row in range(n_rows)], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, words.cast(kind.value_type))
    if pa.types.is_primitive(kind) and not pa.types.is_boolean(kind):
        n_bytes = n_rows * kind.bit_width // 8
        bits = draw(st.one_of(st.binary(min_size=n_bytes, max_size=n_bytes), st.just(b"\xff" * n_bytes)))
        usual = np.arange(n_rows).astype(f"<i{kind.bit_width // 8}" if kind.bit_width < 128 else "<i8")
        bits = draw(st.sampled_from([bits, usual.tobytes().ljust(n_bytes, b"\0")]))
        valid = np.packbits(np.arange(n_rows) >= missing, bitorder="little").tobytes()
        return pa.Array.from_buffers(kind, n_rows, [pa.py_buffer(valid), pa.py_buffer(bits)])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = draw(
            st.lists(st.sampled_from(["run", "idle", "", "x" * 40, None]), min_size=n_rows, max_size=n_rows)
        )
        return pa.array(texts, kind)
    return pa.nulls(n_rows, kind)


@st.composite
def tables(draw: st.DrawFn, names: str) -> pa.Table:
    """The columns of a model, most of them, in any order and of any type; perhaps with others."""
    n_rows = draw(st.sampled_from([0, 1, 4, 5, 51]))
    wanted = draw(st.permutations([*names, *draw(st.sampled_from([[], ["timestamp"], ["d"], ["a"]]))]))
    good = draw(st.booleans())
    columns = []
    for name in wanted:
        usual = pa.float64() if name != "timestamp" else draw(arrow_types)
        kind = usual if good or draw(st.booleans()) else draw(arrow_types)
        columns.append(draw(arrays(kind, n_rows)))
    metadata = draw(st.sampled_from([None, {b"pandas": b"{"}, {b"ARROW:schema": b"\xff"}]))
    schema = pa.schema([pa.field(name, column.type) for name, column in zip(wanted, columns, strict=True)])
    return pa.Table.from_arrays(columns, schema=schema.with_metadata(metadata))


@fuzzed
@given(st.data())
@pytest.mark.parametrize("model", MODELS)
def test_table_of_any_schema_is_answered_or_refused(client, model, data):
    """Whatever types, bits and time zones the columns have."""
    table = data.draw(tables(MODELS[model]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)

    post(client, model, "score", ARROW, sink.getvalue().to_pybytes())
    try:
        pyarrow.parquet.write_table(table, file := io.BytesIO())
    except (pa.ArrowException, ValueError):  # Parquet has no such type
        return
    post(client, model, "score", PARQUET, file.getvalue())


# --- arrays -------------------------------------------------------------------------------------------------

sizes = st.one_of(
    st.integers(0, 6),
    st.sampled_from([2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 2**200]),
    st.integers(-2, 2**65),
)
shapes = st.lists(sizes, max_size=7).map(tuple)


@fuzzed
@given(
    shape=st.one_of(shapes, st.tuples(st.just(0), sizes, sizes), st.tuples(st.integers(0, 6), st.just(3))),
    descr=st.sampled_from(
        ["<f4", "<f8", "|u1", "<i8", "<f2", ">f4", "|O", "|S0", "<c8", "<M8[s]", "|V0", ""]
    ),
    fortran=st.sampled_from(["False", "False", "True", "None", "0"]),
    model=st.sampled_from([*MODELS]),
    verb=st.sampled_from(["score", "denoise", "decode"]),
    tail=st.sampled_from([b"", b"\0", b"\xff" * 12]),
)
def test_array_of_any_shape_is_answered_or_refused(client, shape, descr, fortran, model, verb, tail):
    """Sizes may be beyond any memory, and their product 0."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    n_bytes = 4 * math.prod(shape)
    content = bytes(n_bytes) if 0 <= n_bytes < 10_000 else tail
    words = "x".join(map(str, shape))

    post(
        client,
        model,
        verb,
        NPY,
        b"\x93NUMPY\1\0%b%b%b" % (len(header).to_bytes(2, "little"), header, content),
    )
    post(client, model, verb, f"{RAW}; shape={words}", content)


@fuzzed
@given(header=st.text(st.sampled_from("{}[]()'\"\\:, descrfotanhp_019-+*xjeTFalseN<|\0é\n"), max_size=60))
def test_array_with_any_header_is_answered_or_refused(client, header):
    """It is parsed as Python, and Python warns of some literals."""
    text = header.encode("latin-1")

    post(client, "row", "score", NPY, b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text)
