"""Large JSON bodies in slices, against the same bodies read at once."""

import json
import random
import re
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.bodies import Expected, Limits
from service.bodies.json import cuts, slices
from service.bodies.json.cuts import find_cut
from service.bodies.json.instances import decode_json, decode_strictly
from service.bodies.json.slices import SLICE_BYTES, decode_slices
from service.http.problems import Problem
from tests.service.json_texts import KINDS, OPTIONS, draw_body, is_same, outcome


def in_slices(slice_bytes):
    """Return a decoder with slices of that length."""

    def decode(content, expected, limits, options):
        return decode_slices(content, expected, limits, options, slice_bytes)

    return decode


def is_as_good(sliced, whole, content: bytes, expected: Expected) -> bool:
    """Tell whether the outcome of slices is as good as the outcome of reading the whole body.

    A slice does not include the text after it. So the place of a fault may be more exact, the hint at NaN may
    be missing, and the value of a repeated option, or of one before a syntax error, may differ or be missing.
    For a series that is not JSON, or has its steps twice, the whole reader cannot tell the rank of a step.
    """
    if expected.series and (
        not is_json(content) or content.replace(b"\\u0061", b"a").count(b"instances") > 1
    ):
        return True
    if not isinstance(sliced, Problem) or not isinstance(whole, Problem) or is_same(sliced, whole):
        return is_same(sliced, whole)
    if sliced.type == "malformed-body":
        return sliced.detail == whole.detail.replace("; JSON has no NaN and no Infinity", "")
    if sliced.type == whole.type == "invalid-option":
        return sliced.detail.partition(", got")[0] == whole.detail.partition(", got")[0]
    one, other = sliced.errors[0], whole.errors[0]
    return one.get("row") == other.get("row") and one["pointer"].startswith(other["pointer"] + "/")


def is_json(content: bytes) -> bool:
    """Return whether a text is JSON."""
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_the_body(kind):
    """Slices of any length give the result of the whole body, valid or invalid."""
    rng, expected = random.Random(1), KINDS[kind]
    n_right = 0
    for _ in range(2000):
        content = draw_body(kind, rng)
        whole = outcome(decode_strictly, content, expected)
        n_right += not isinstance(whole, Problem)
        for slice_bytes in (1, rng.randint(2, 9), rng.randint(10, 200)):
            sliced = outcome(in_slices(slice_bytes), content, expected)

            assert is_as_good(sliced, whole, content, expected), (content, slice_bytes, sliced, whole)
    assert n_right > 300


def test_place_of_a_fault_is_that_in_the_body():
    """Row, pointer and byte count from the begin of the body, not of the slice."""
    rows = [[float(row), 0.5] for row in range(40_000)]
    content = json.dumps({"instances": rows}).encode()
    limits = Limits(50_000, 0)
    assert len(content) > 2 * SLICE_BYTES

    typed = content.replace(b"[39990.0, 0.5]", b"[39990.0, null]")
    problem = outcome(decode_json, typed, KINDS["latent"], limits)
    assert problem.errors[0]["pointer"] == "/instances/39990/1"
    assert problem.errors[0]["row"] == 39990
    assert is_same(problem, outcome(decode_strictly, typed, KINDS["latent"], limits))

    for wrong in (b"[1, 0.5],,", b"[1, 0.5", b"[1], 0.5]", b"[1, NaN]", b"[1, 2, 3]"):
        broken = content.replace(b"[39990.0, 0.5]", wrong)
        problem = outcome(decode_json, broken, KINDS["latent"], limits)
        assert is_same(problem, outcome(decode_strictly, broken, KINDS["latent"], limits))


def test_too_many_rows_are_told_as_soon_as_there_are():
    """The rest of the body is not read."""
    content = b'{"instances":[' + b",".join([b"[1,2]"] * 100_000) + b", no JSON at all"

    problem = outcome(decode_json, content, KINDS["latent"], Limits(10_000, 0))

    assert problem.type == "too-many-rows"
    assert re.fullmatch(r"a body may hold at most 10000 samples, got at least \d+", problem.detail)


@pytest.mark.parametrize("kind", ["latent", "row", "cells", "series"])
@pytest.mark.parametrize("container", [bytes, bytearray])
def test_no_step_is_longer_than_a_slice(kind, container, monkeypatch):
    """No step blocks other threads for long, whether rows are arrays or objects."""
    expected = KINDS[kind]
    names = expected.feature_names
    width = expected.shape[-1]
    rows = np.random.default_rng(0).normal(size=(30_000, width)).round(3).tolist()
    if names:
        rows[::2] = [dict(zip(names, row, strict=True)) for row in rows[::2]]
    document = {"instances": rows, "explain": 2}
    if expected.timestamps:
        document["timestamps"] = [f'2026-01-01T00:00:{step:06d}Z, "' for step in range(len(rows))]
    lengths = []

    def record(read):
        def recorded(*args, **kwargs):
            text = next(argument for argument in args if isinstance(argument, bytes))
            lengths.append(len(text))
            return read(*args, **kwargs)

        return recorded

    monkeypatch.setattr(slices.NumberReader, "read", record(slices.NumberReader.read))
    monkeypatch.setattr(slices, "read_array", record(slices.read_array))
    monkeypatch.setattr(slices, "read_instances", record(slices.read_instances))
    monkeypatch.setattr(slices, "read_body", record(slices.read_body))

    decoded = decode_json(container(json.dumps(document).encode()), expected, Limits(30_000, 0), OPTIONS)

    assert max(lengths) < SLICE_BYTES + 1000
    assert decoded.options == {"explain": 2}
    assert decoded.timestamps == document.get("timestamps")
    wanted = [[row[name] for name in names] if isinstance(row, dict) else row for row in rows]
    assert decoded.samples.tolist() == wanted


def test_large_body_costs_little_more_memory_than_its_array():
    """Plain numbers are never converted to Python numbers."""
    samples = np.random.default_rng(0).normal(size=(5_000, 100)).round(4)
    content = json.dumps({"instances": samples.tolist()}).encode()
    expected = Expected((100,))

    tracemalloc.start()
    decoded = decode_json(content, expected, Limits(5_000, 0), ())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    np.testing.assert_array_equal(decoded.samples, samples)
    assert peak < 1.2 * samples.nbytes + 8 * SLICE_BYTES


PIECES = st.sampled_from(["[", "]", "{", "}", ",", "1 ", '"a"', '"],"', '"{\\"["', '"\\\\"', '"', '"\\\\\\"'])


@given(st.lists(PIECES, max_size=40), st.integers(0, 70))
def test_cut_is_at_the_first_comma_or_bracket_of_the_array(pieces, least):
    """The cut equals that of a byte-by-byte scan, for any step."""
    content = "".join(pieces)
    depth, in_text, escaped, wanted = 0, False, False, len(content)
    for position, character in enumerate(content):
        if in_text:
            in_text = escaped or character != '"'
            escaped = not escaped and character == "\\"
            continue
        in_text = character == '"'
        depth += (character in "[{") - (character in "]}")
        if depth < 0 or (character == "," and depth == 0 and position >= least):
            wanted = position
            break
    outside_of_texts = re.sub(r'"(?:[^"\\]|\\.)*("|\\?$)', "", content[:wanted])
    assume("\\" not in outside_of_texts)  # where it is, the text is no JSON

    for step in (2, 3, 7, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuts, "_STEP", step)
            assert find_cut(memoryview(content.encode()), 0, least) == wanted
