"""The fast reader of JSON against the strict one."""

import json
import random
import struct
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.bodies import Expected, Limits
from service.bodies.json import instances, numbers
from service.bodies.json.instances import decode_json, decode_plain, decode_row, decode_strictly
from service.bodies.json.numbers import NumberReader
from tests.service.json_texts import KINDS, LIMITS, OPTIONS, draw_body, is_same, outcome

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**65), 2**65).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
)


def read_by_both(content: bytes, expected: Expected):
    """The content by the fast reader, None if it leaves the body to the strict one; else both agree."""
    row = outcome(lambda content, expected, *_: decode_row(content, expected), content, expected)
    plain = outcome(decode_plain, content, expected)
    for fast in filter(None, (row, plain)):
        assert is_same(fast, outcome(decode_strictly, content, expected)), content
    return row or plain


@pytest.mark.parametrize("kind", KINDS)
def test_fast_reader_reads_what_the_strict_one_reads(kind):
    """Both readers agree to the bit or in their problem, or the fast one returns None."""
    rng = random.Random(0)
    n_read = sum(read_by_both(draw_body(kind, rng), KINDS[kind]) is not None for _ in range(2000))

    assert n_read > 150 or KINDS[kind].cells


@settings(max_examples=1000)
@given(NUMBERS)
@example("9007199254740993")
@example("9223372036854775807")
@example("18446744073709551615")
@example("2.2250738585072011e-308")
@example("0." + "0" * 400 + "1")
@example("1" + "0" * 308)
@example("5e-324")
def test_numbers_are_rounded_alike(number):
    """Both readers and Python round to the same bits."""
    content = b'{"instances": [[%s, 1]]}' % number.encode()

    read_by_both(content, KINDS["latent"])
    read = NumberReader().read(content, 1)
    if read is not None:
        assert struct.pack("d", read[0][0, 0]) == struct.pack(
            "d", float(number) + 0.0 if number == "-0" else float(number)
        )


@pytest.mark.parametrize("kind", ["row", "latent", "image", "colour", "series", "pulse"])
def test_plain_bodies_are_read_by_the_fast_reader(kind):
    """The fast reader takes the output of `json` and orjson, with and without options."""
    expected = KINDS[kind]
    samples = np.random.default_rng(0).normal(size=(5, *expected.shape))
    for document in (
        {"instances": samples.tolist()},
        {"instances": samples.tolist(), "explain": 2, "alpha": 0.1},
    ):
        for indent in (None, 1):
            content = json.dumps(document, indent=indent).encode()

            decoded = decode_plain(content, expected, LIMITS, OPTIONS)

            assert decoded.samples.tobytes() == samples.tobytes()
            assert decoded.options == {name: document[name] for name in document if name != "instances"}
            read_by_both(content, expected)


@pytest.mark.parametrize(
    "instances",
    [
        "[[1,[2,3]],[4,[]]]",  # as many values and arrays of as many elements as two rows of two
        "[[1,2],[[3,4]]]",
        "[[1,2],3,4]",
        "[[1,2],[3]]",
        "[[1,2,3],[4]]",
        "[[1,2],{}]",
        "[[1,2],[3,null]]",
        "[[1,2],[3,true]]",
        '[[1,2],[3,"4"]]',
        '[[1,2],"ab"]',
        "[]",
        "[1,[2,[3]]]",
        "{}",
        '"ab"',
        "null",
    ],
)
def test_fast_reader_leaves_other_arrays_alone(instances):
    """All numbers come as one array, so a row of another length would shift all that follow."""
    assert NumberReader().read(b'{"instances":%s}' % instances.encode(), 1) is None


def test_fast_reader_outlives_what_it_cannot_read():
    """An error must not keep views of the parser alive, or the parser could not be used again."""
    reader = NumberReader()
    for faulty in (
        b'{"instances":[[1,null]]}',
        b'{"instances":[[1,[2]]]}',
        b'{"instances":[[1],[]]}',
        b"[",
        b"[1]",
    ):
        assert reader.read(faulty, 1) is None
        assert reader.read(b'{"instances":[[1,2]],"fdr":[1]}', 1) is None
        samples, members = reader.read(b'{"instances":[[1,2]],"fdr":0.1}', 1)

        assert (samples.tolist(), members) == ([[1.0, 2.0]], {"fdr": 0.1})


def test_samples_stay_what_they_are_when_the_reader_reads_on():
    """They are a copy, which may be written to."""
    reader = NumberReader()
    samples, _ = reader.read(b'{"instances":[[1,2]]}', 1)
    for number in range(100):
        reader.read(b'{"instances":[[%d,4]]}' % number, 1)
    del reader

    assert samples.tolist() == [[1.0, 2.0]]
    samples[0, 0] = 3


def test_bodies_are_read_without_the_fast_reader(monkeypatch):
    """The strict reader replaces it on machines without a wheel of simdjson."""
    content = json.dumps({"instances": [[0.5, 1.0]] * 200}).encode()
    monkeypatch.setattr(numbers, "simdjson", None)
    monkeypatch.setattr(instances, "_NUMBERS", numbers.NumberReader())

    assert decode_plain(content, KINDS["latent"], Limits(200, 0), OPTIONS) is None
    assert decode_json(content, KINDS["latent"], Limits(200, 0), OPTIONS).samples.shape == (200, 2)


def test_threads_decode_at_the_same_time():
    """Every body has a reader of its own."""
    samples = np.random.default_rng(0).normal(size=(8, 40, 3))
    contents = [json.dumps({"instances": rows.tolist()}).encode() for rows in samples]
    wrong = []

    def decode(position):
        for _ in range(200):
            read = decode_json(contents[position], KINDS["row"], LIMITS, OPTIONS).samples
            if not np.array_equal(read, samples[position]):
                wrong.append(position)

    threads = [threading.Thread(target=decode, args=(position,)) for position in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


@pytest.mark.parametrize(
    ("row", "got"),
    [
        (b'{"a":"\xff"}', "text"),
        (b'{"a":null,"b":"\xff"}', "null"),
        (b'{"a":{"\xff":1}}', "an object"),
    ],
)
def test_text_that_is_not_utf8_does_not_hide_a_fault_before_it(row, got):
    """The problem names the row, and the value if it can be found."""
    problem = outcome(decode_json, b'{"instances":[%s]}' % row, KINDS["row"])

    assert (problem.type, problem.detail) == ("invalid-input", f"/instances/0: must be a number, got {got}")


def test_too_many_rows_are_refused_by_both_readers():
    """The sentence has both numbers; an unknown option is reported first."""
    expected = KINDS["latent"]
    content = b'{"instances":[' + b",".join([b"[1,2]"] * 51) + b"]"

    for end, word in ((b"}", "too-many-rows"), (b',"alpha":5}', "invalid-option")):
        assert outcome(decode_json, content + end, expected).type == word
        read_by_both(content + end, expected)
