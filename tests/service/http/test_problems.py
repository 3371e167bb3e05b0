"""Errors, one shape for all."""

import re

import pytest

from detector import NonFiniteScore
from service.http.problems import TYPES, Problem, translate
from tests.service.responses import assert_problem


@pytest.mark.parametrize("path", ["/", "/scores", "/score/", "//score", "/models/", "/%00", "/models/a/b"])
def test_unknown_paths_are_problems(client, path):
    """There is no redirect and no page of HTML."""
    assert_problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/score", "POST"),
        ("DELETE", "/models/tiny", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("OPTIONS", "/score", "POST"),
        ("PUT", "/models/tiny/versions/1/score", "POST"),
    ],
)
def test_other_methods_are_problems(client, method, path, allowed):
    """The answer lists the allowed methods."""
    response = client.open(path, method=method)

    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/models/{}", {}),
        ("GET", "/{}", {}),
        ("GET", "/v2/models/{}", {}),
        ("POST", "/models/{}/score", {"json": {"instances": [[1, 2, 3]]}}),
        ("POST", "/models/tiny/labels/{}/score", {"json": {"instances": [[1, 2, 3]]}}),
        ("POST", "/score", {"json": {"instances": [{name * 2000: 1 for name in "abcde"}]}}),
        ("POST", "/score", {"data": b"x,y\n".replace(b"x", b"x" * 5000), "content_type": "text/csv"}),
    ],
)
def test_refusal_does_not_repeat_long_names(client, method, path, body):
    """Neither of models and labels, nor of members and columns."""
    response = client.open(path.format("n" * 5000), method=method, **body)

    assert 400 <= response.status_code < 500
    assert len(response.json["detail"]) <= 1000
    assert len(response.data) < 2500


def test_long_sentence_keeps_its_end():
    """A hint at the end is not lost."""
    problem = Problem("invalid-input", "begin " + "a" * 5000 + "; hint", [{"detail": "b" * 5000, "row": 1}])

    assert problem.detail.startswith("begin aaa")
    assert problem.detail.endswith("aaa; hint")
    assert len(problem.detail) < 1000
    assert len(problem.errors[0]["detail"]) < 1000


def test_faults_of_ours_are_logged_and_not_shown(client, registry, monkeypatch, caplog):
    """No exception's text and no traceback reaches a client."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(registry, "entry", fail)

    response = client.post("/score", json={"instances": [[1, 2, 3]]})

    assert_problem(response, 500, "internal-error")
    assert "secret" not in response.text
    assert "secret of the house" in caplog.text


def test_a_score_that_is_not_finite_is_a_fault_of_ours():
    """It is never a verdict, and never the client's error."""
    assert translate(NonFiniteScore("NaN")).type == "internal-error"


def test_a_client_that_leaves_is_a_bad_request(client):
    """An incomplete body is refused."""
    response = client.post(
        "/score",
        data=b"{}",
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "100"},
    )

    assert_problem(response, 400, "bad-request")


@pytest.mark.parametrize("type_", [name for name, kind in TYPES.items() if kind.status == 503])
def test_problems_that_pass_say_when_to_come_back(type_):
    """503 has Retry-After."""
    assert Problem(type_, "later").headers == {"Retry-After": "1"}


def test_types_are_stable_words():
    """Usable as relative URI references; statuses are of errors."""
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", name) for name in TYPES)
    assert all(
        kind.status in (400, 401, 404, 405, 406, 408, 409, 413, 414, 415, 422, 431, 500, 503)
        for kind in TYPES.values()
    )


@pytest.mark.parametrize("sent", ["a", "A-z_0.9", "x" * 128])
def test_request_id_of_the_client_is_echoed(client, sent):
    """The id joins the logs of client and service."""
    assert client.get("/livez", headers={"X-Request-Id": sent}).headers["X-Request-Id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "é", "a,b", '"', "<script>"])
def test_request_id_of_another_form_is_replaced(client, sent):
    """Nothing odd gets into the log."""
    answered = client.get("/livez", headers={"X-Request-Id": sent}).headers["X-Request-Id"]

    assert re.fullmatch("[0-9a-f]{32}", answered)


def test_every_answer_forbids_guessing_its_type(client):
    """Problems have the header, too."""
    for path in ("/livez", "/nothing", "/models/tiny/versions/1/report"):
        assert client.get(path).headers["X-Content-Type-Options"] == "nosniff"
