"""Bodies that are made to take long, small and large: no step of decoding keeps the event loop for long."""

import gzip
import itertools
import json
from collections.abc import Callable

import pyarrow as pa
import pytest

from detector import RunStopped
from detector.engine.session import Stop, check_stop, stopped_by
from service.bodies import ARROW, CSV, JSON, MULTIPART, NPY, RAW, Expected, Limits
from service.bodies.codecs import decoder
from service.bodies.encodings import inflate
from service.bodies.json.tensorflow import decode_predict
from service.endpoints import open_inference
from service.endpoints.lines import Lines
from service.http.problems import Problem
from tests.model_folder import MIXED, write_model_folder
from tests.service.holds import longest_hold

MOST_SECONDS = 0.05
N_BYTES = 12 * 2**20  # a hold that grows with the body is far longer than the limit
LIMITS = Limits(100_000, 128 * 2**20)
ROW = Expected((3,), ("a", "b", "c"), rows=True)
CELLS = Expected((3,), ("a", "b", "c"), rows=True, cells=True, texts=frozenset("b"))
STEPS = Expected((4, 2), ("x", "y"), series=True, timestamps=True)
IMAGE = Expected((28, 28), value_range=(0.0, 1.0))
LARGE_IMAGE = Expected((512, 512, 3), value_range=(0.0, 1.0))
PARTS = f"{MULTIPART}; boundary=cut"
PART = b'--cut\r\nContent-Disposition: form-data; name="f"; filename="f.png"\r\n'


def fill(text: bytes) -> bytes:
    """Repeat a text up to the length of a body."""
    return text * (N_BYTES // len(text))


def rows(*texts: bytes) -> bytes:
    """Return a JSON body with these texts as instances."""
    return b'{"instances":[%b]}' % b"".join(texts)


def members(pattern: bytes) -> bytes:
    """Return as many members as a body holds, each with another name."""
    return b",".join(pattern % number for number in range(N_BYTES // 12))


def schema(n_columns: int) -> bytes:
    """Return an Arrow stream without rows."""
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, pa.schema([(str(number), pa.int8()) for number in range(n_columns)])).close()
    return sink.getvalue().to_pybytes()


ATTACKS: dict[str, tuple[str, Expected, Callable[[], bytes]]] = {
    "json-blanks": (JSON, ROW, lambda: fill(b" ")),
    "json-blanks-before-the-colon": (JSON, ROW, lambda: b'{"instances"' + fill(b"\n")),
    "json-blanks-between-rows": (JSON, ROW, lambda: rows(b"[1,2,3],", fill(b" "), b"[1,2,3]")),
    "json-blanks-behind": (JSON, ROW, lambda: rows(b"[1,2,3]") + fill(b" ") + b"x"),
    "json-members-of-a-row": (JSON, ROW, lambda: rows(b"{", members(b'"%d":1'), b"}")),
    "json-repeated-member": (JSON, ROW, lambda: rows(b"{", fill(b'"a":1,'), b'"a":1}')),
    "json-repeated-in-each-row": (JSON, ROW, lambda: rows(fill(b'{"a":1,"b":2,"c":3,"a":1},'), b"[1,2,3]")),
    "json-members-of-the-body": (JSON, ROW, lambda: b"{" + members(b'"%d":1') + b"}"),
    "json-options": (JSON, ROW, lambda: b'{"instances":[[1,2,3]],' + fill(b'"alpha":0.5,') + b'"alpha":1}'),
    "json-64-kib-of-members": (JSON, ROW, lambda: rows(b"[1,2,3]")[:-1] + b"," + members(b'"%d":1')[:60_000]),
    "json-long-row": (JSON, ROW, lambda: rows(b"[", fill(b"1,"), b"1]")),
    "json-nested": (JSON, ROW, lambda: b'{"instances":' + fill(b"[")),
    "json-nested-objects": (JSON, ROW, lambda: fill(b'{"a":')),
    "json-bare-array": (JSON, ROW, lambda: b"[" + fill(b"[1,2,3],") + b"[1,2,3]]"),
    "json-text": (JSON, ROW, lambda: rows(b'"', fill(b"a"), b'"')),
    "json-name": (JSON, ROW, lambda: b'{"' + fill(b"a") + b'":1}'),
    "json-escapes": (JSON, ROW, lambda: rows(b'"', fill(b"\\u0041"), b'"')),
    "json-backslashes": (JSON, ROW, lambda: b'{"instances":["' + fill(b"\\")),
    "json-digits": (JSON, ROW, lambda: rows(b"[", fill(b"1"), b",2,3]")),
    "json-unknown-member": (JSON, ROW, lambda: b'{"data":[' + fill(b"[1,2,3],") + b"[1,2,3]]}"),
    "json-empty-texts": (JSON, ROW, lambda: rows(fill(b'"",'), b'""')),
    "json-empty-rows": (JSON, ROW, lambda: rows(fill(b"[],"), b"[]")),
    "json-last-row-wrong": (JSON, ROW, lambda: rows(b"[1,2,3]," * 90_000, b'["x",2,3]')),
    "json-ragged": (JSON, ROW, lambda: rows(b"[1,2,3]," * 90_000, b"[1]")),
    "json-texts-of-cells": (JSON, CELLS, lambda: rows(b'[1,"', fill(b"a"), b'",1]')),
    "json-time-stamp": (JSON, STEPS, lambda: b'{"instances":[[1,2]],"timestamps":["' + fill(b"a") + b'"]}'),
    "json-time-stamps": (JSON, STEPS, lambda: b'{"timestamps":[' + fill(b'"",') + b"{}]}"),
    "json-large-image": (
        JSON,
        LARGE_IMAGE,
        lambda: json.dumps({"instances": [[[[0.5, 0.2, 0.1]] * 512] * 511 + [[[1, 2, "x"]] * 512]]}).encode(),
    ),
    "csv-cell": (CSV, ROW, lambda: b"a,b,c\n" + fill(b"1")),
    "csv-quoted-cell": (CSV, CELLS, lambda: b'a,b,c\n1,"' + fill(b"x") + b'",3\n'),
    "csv-cells": (CSV, ROW, lambda: b"a,b,c\n" + fill(b",")),
    "csv-cells-over-lines": (CSV, CELLS, lambda: b'a,b,c\n"' + fill(b'\n","') + b'"'),
    "csv-blank-lines": (CSV, ROW, lambda: b"a,b,c\n" + fill(b"\n") + b"x"),
    "csv-carriage-returns": (CSV, ROW, lambda: b"a,b,c\r" + fill(b"\r") + b"x"),
    "csv-quotes": (CSV, ROW, lambda: b"a,b,c\n" + fill(b'"')),
    "csv-names": (CSV, ROW, lambda: members(b"%d")),
    "csv-not-utf-8": (CSV, CELLS, lambda: b"a,b,c\n" + b"1,x,2\n" * 90_000 + b"1,\xff,2\n"),
    "csv-last-row-wrong": (CSV, ROW, lambda: b"a,b,c\n" + b"+1,.5,007\n" * 30_000 + b"1,2,x\n"),
    "npy-head": (NPY, ROW, lambda: b"\x93NUMPY\2\0" + N_BYTES.to_bytes(4, "little") + fill(b"(")),
    "raw": (RAW, ROW, lambda: fill(b"\0") + b"\0"),
    "parts-without-a-boundary": (PARTS, IMAGE, lambda: fill(b"\r\n")),
    "parts-fields": (PARTS, IMAGE, lambda: PART + fill(b"a: b\r\n")),
    "parts-field": (PARTS, IMAGE, lambda: PART + b"a: " + fill(b"b")),
    "parts-with-many-fields": (PARTS, IMAGE, lambda: fill(PART + b"a: b\r\n" * 100 + b"\r\nx\r\n")),
    "parts-near-the-boundary": (PARTS, IMAGE, lambda: PART + b"\r\n" + fill(b"\r\n--cu")),
    "parts": (PARTS, IMAGE, lambda: fill(PART + b"\r\n\r\n")),
    "arrow-schema": (ARROW, ROW, lambda: schema(50_000)),
    "arrow-zeros": (ARROW, ROW, lambda: fill(b"\0")),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_invalid_body_is_refused_without_a_long_step(name):
    """Whatever the body: other threads, the event loop above all, get the interpreter in between."""
    content_type, expected, make = ATTACKS[name]
    body, problems = make(), []

    def work() -> None:
        try:
            decoder(content_type, expected, LIMITS, options=("alpha",))(body)
        except Problem as problem:
            problems.append(problem)

    assert longest_hold(work, MOST_SECONDS) < MOST_SECONDS
    assert problems


def tensor(datatype: str, shape: list[int], *data: bytes) -> bytes:
    """Return a request to `infer`; the data are a text."""
    head = b'{"inputs":[{"name":"samples","datatype":"%b","shape":%b,"data":['
    return head % (datatype.encode(), json.dumps(shape).encode()) + b"".join(data) + b"]}]}"


TENSORS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "texts-as-floats": ("row", lambda: tensor("FP32", [90_000, 3], fill(b'"",'), b'""')),
    "texts-as-integers": ("row", lambda: tensor("INT64", [90_000, 3], fill(b'"",'), b'""')),
    "integers": ("row", lambda: tensor("INT64", [90_000, 3], fill(b"1,"), b"1")),
    "last-integer-wrong": ("row", lambda: tensor("UINT64", [90_000, 3], b"1," * 269_999, b"-1")),
    "floats": ("row", lambda: tensor("FP32", [90_000, 3], fill(b"1,"), b"1")),
    "gaps": ("mixed", lambda: tensor("FP32", [90_000, 3], fill(b"null,"), b"1")),
    "nested": ("row", lambda: tensor("FP32", [90_000, 3], fill(b"["))),
    "blanks": ("row", lambda: fill(b" ")),
    "texts-as-images": ("image", lambda: tensor("BYTES", [90_000], fill(b'"",'), b'""')),
    "one-image": ("image", lambda: tensor("BYTES", [1], b'"', fill(b"A"), b'"')),
    "inputs": ("row", lambda: b'{"inputs":[' + fill(b'{"name":"a","shape":[1],"datatype":"FP32"},')),
    "parameters": ("row", lambda: b'{"parameters":{' + fill(b'"a":1,') + b'"a":1}}'),
    "id": ("row", lambda: b'{"id":"' + fill(b"a") + b'"}'),
}  # fmt: skip


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Models of rows, of rows with gaps, and of images."""
    folder = tmp_path_factory.mktemp("holds")
    return {
        "row": write_model_folder(folder / "row"),
        "mixed": write_model_folder(folder / "mixed", **MIXED),
        "image": write_model_folder(folder / "image", sample_shape=(28, 28)),
    }


@pytest.mark.parametrize("name", TENSORS)
def test_invalid_tensor_is_refused_without_a_long_step(manifests, name):
    """As any other body."""
    model, make = TENSORS[name]
    body, problems = make(), []

    def work() -> None:
        try:
            open_inference.decode(body, None, manifests[model], LIMITS)
        except Problem as problem:
            problems.append(problem)

    assert longest_hold(work, MOST_SECONDS) < MOST_SECONDS
    assert problems


@pytest.mark.parametrize(
    "body",
    [
        lambda: fill(b" "),
        lambda: b'{"inputs":' + fill(b" "),
        lambda: b'{"instances":[' + fill(b'{"b64":""},') + b"1]}",
        lambda: b'{"instances":[{"b64":"' + fill(b"A") + b'"}]}',
        lambda: b'{"inputs":{"samples":[' + fill(b'"",') + b"1]}}",
    ],
    ids=["blanks", "blanks-in-inputs", "files", "file", "texts"],
)
def test_invalid_prediction_is_refused_without_a_long_step(body):
    """The forms of TensorFlow Serving are rewritten slice by slice."""
    content, problems = body(), []

    def work() -> None:
        try:
            decode_predict(content, IMAGE, LIMITS, ())
        except Problem as problem:
            problems.append(problem)

    assert longest_hold(work, MOST_SECONDS) < MOST_SECONDS
    assert problems


@pytest.mark.parametrize("body", [gzip.compress(fill(b" "), 1, mtime=0), gzip.compress(b"", mtime=0) * 9_999])
def test_gzip_is_inflated_without_a_long_step(body):
    """One member of blanks, and many members of nothing."""
    assert longest_hold(lambda: inflate(body, "gzip", LIMITS.max_bytes), MOST_SECONDS) < MOST_SECONDS


@pytest.mark.parametrize("data", [b"\n", b"1\n", b" \n", b"\r\n\t"])
def test_lines_are_cut_without_a_long_step(data):
    """What arrives at once is at most 256 KiB, but the event loop itself cuts it."""
    lines = Lines(4096, 2**20)
    data *= 2**18 // len(data)

    def work() -> None:
        lines.feed(data)
        lines.take()

    assert longest_hold(work, MOST_SECONDS) < MOST_SECONDS


@pytest.mark.parametrize(
    ("name", "slices"),
    [
        ("json-blanks", "service.bodies.json.cuts.check_stop"),
        ("json-last-row-wrong", "service.bodies.json.slices.check_stop"),
        ("csv-last-row-wrong", "service.bodies.tables.check_stop"),
        ("parts-near-the-boundary", "service.bodies.images.check_stop"),
    ],
)
def test_decoding_ends_when_nobody_waits_for_it(name, slices, monkeypatch):
    """At the deadline, or when the client closes its connection: before the next slice."""
    content_type, expected, make = ATTACKS[name]
    body, stop, counts = make(), Stop(), itertools.count(1)

    def stop_at_the_third() -> None:
        if next(counts) == 3:
            stop.set()
        check_stop()

    monkeypatch.setattr(slices, stop_at_the_third)
    with stopped_by(stop), pytest.raises(RunStopped):
        decoder(content_type, expected, LIMITS, options=())(body)

    assert next(counts) == 4
