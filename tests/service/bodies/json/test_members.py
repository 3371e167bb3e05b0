"""Repeated members are refused by every reader of JSON, at every place."""

import json

import pytest

from service.bodies import Limits
from service.bodies.json.instances import decode_json, decode_strictly
from service.bodies.json.members import find_repeated
from service.bodies.json.slices import SLICE_BYTES, decode_slices
from tests.service.json_texts import KINDS, OPTIONS
from tests.service.responses import assert_problem

LIMITS = Limits(200_000, 0)
ROWS = {"small": 1, "plain": 200, "sliced": 60_000}


@pytest.mark.parametrize("n_rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ('"instances":[[1,2,3]],"instances":ROWS', "the body has the member 'instances' more than once"),
        (r'"inst\u0061nces":[],"instances":ROWS', "the body has the member 'instances' more than once"),
        ('"alpha":0.1,"instances":ROWS,"alpha":0.1', "the body has the member 'alpha' more than once"),
        ('"instances":[{"a":1,"b":2,"a":3,"c":4},ROWS', "/instances/0 has the member 'a' more than once"),
    ],
    ids=["instances", "escaped", "option", "feature"],
)
def test_member_that_is_there_twice_is_refused(members, sentence, n_rows):
    """The error has name and place, for whole bodies and for slices."""
    rows = json.dumps([[0.5, 1.0, 2.0]] * n_rows)
    closed = rows if ",ROWS" not in members else rows[1:]
    content = ("{" + members.replace("ROWS", closed) + "}").encode()
    assert (len(content) > SLICE_BYTES) == (n_rows == ROWS["sliced"])

    for decode in (decode_json, decode_strictly, decode_slices):
        with pytest.raises(Exception, match="more than once") as refused:
            decode(content, KINDS["row"], LIMITS, OPTIONS)

        assert (refused.value.type, refused.value.detail) == ("malformed-body", sentence)


def test_feature_that_is_there_twice_is_named_by_its_row_beyond_the_first_slice():
    """Rows are counted from the first of the body."""
    row = '{"a":1,"b":2,"c":3}'
    rows = ",".join([row] * 20_000)
    content = f'{{"instances":[{rows},{{"a":1,"b":2,"c":3,"b":4}},{row}]}}'

    with pytest.raises(Exception, match=r"^/instances/20000 has the member 'b' more than once$"):
        decode_json(content.encode(), KINDS["row"], LIMITS, OPTIONS)


@pytest.mark.parametrize(
    ("text", "n_members", "found"),
    [
        ('{"a":1,"b":"::","c":{"a":":"}}', 4, None),
        (r'{"a":"\":","b":"\\"}', 2, None),
        ('{"a":[{"b":1},{"b":1}],"unknown":{"b":1}}', 3, None),
        ('{"a":1,"a":2}', 1, ((), "a")),
        (r'{"a":1,"\u0061":":"}', 1, ((), "a")),
        ('{"x":[1,{"y":[[{"b":1,"b":1}]]}]}', 3, (("x", 1, "y", 0, 0), "b")),
    ],
)
def test_colons_outside_of_texts_are_members(text, n_members, found):
    """If there are more colons than known members, the text is searched."""
    assert find_repeated(text.encode(), n_members) == found


def test_clients_are_told_on_every_route_that_takes_json(client):
    """Every protocol and every line reports a repeated member."""
    tensor = '{"name":"samples","shape":[1,3],"datatype":"FP32","data":[1,2,3]%s}'
    for path, body, where in (
        ("/score", '{"instances":[[1,2,3]],"instances":[[9,9,9]]}', "the body"),
        ("/v1/models/tiny:predict", '{"instances":[[1,2,3]],"instances":[[9,9,9]]}', "the body"),
        ("/v2/models/tiny/infer", '{"inputs":[%s],"id":"a","id":"b"}' % (tensor % ""), "the body"),
        ("/v2/models/tiny/infer", '{"inputs":[%s]}' % (tensor % ',"data":[9,9,9]'), "/inputs/0"),
        ("/v2/repository/index", '{"ready":true,"ready":false}', "the body"),
    ):
        response = client.post(path, data=body, content_type="application/json")

        detail = assert_problem(response, 400, "malformed-body")["detail"]
        assert detail.startswith(f"{where} has the member ")

    lines = client.post("/score", data='{"a":1,"a":2,"b":3,"c":4}', content_type="application/x-ndjson")
    assert json.loads(lines.data)["error"]["detail"] == "the line has the member 'a' more than once"


def test_infer_takes_members_that_it_does_not_know(client):
    """Unknown members and colons in an id are not repeated members; too deeply nested text is refused."""
    tensor = '{"name":"samples","shape":[1,3],"datatype":"FP32","data":[1,2,3],"more":{"name":1}}'
    for rest, statuses in (
        ('"id":"urn:a:b","x":{"id":1}', (200,)),
        *(('"x":%s' % ("[" * depth + "]" * depth), (200, 400)) for depth in range(500, 1500, 10)),
    ):
        response = client.post("/v2/models/tiny/infer", data=f'{{"inputs":[{tensor}],{rest}}}')

        assert response.status_code in statuses
