"""Probes, and the list of models."""

import dataclasses
import time

import pytest

from tests.model_folder import publish_model
from tests.service.polls import follow
from tests.service.responses import assert_problem


def test_livez_says_alive(client):
    """The process answers."""
    assert client.get("/livez").json == {"status": "alive"}


def test_readyz_says_ready(client):
    """The default model is loaded."""
    assert client.get("/readyz").json == {"status": "ready"}


def test_readyz_without_any_model_is_ready(settings, make_app, tmp_path):
    """Nothing is required of an empty store: models come while it serves."""
    (tmp_path / "empty").mkdir()
    settings = dataclasses.replace(settings, store=tmp_path / "empty", default_model=None)

    assert make_app(settings).test_client().get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready"])
def test_readyz_names_a_store_that_is_not_there_until_it_is(settings, make_app, tmp_path, path):
    """A wrong mount is not an empty store; if a store disappears later, loaded models stay."""
    folder = tmp_path / "wrong"
    app = make_app(dataclasses.replace(settings, store=folder, default_model=None))
    client, models = app.test_client(), app.extensions["residual"].models

    detail = assert_problem(client.get(path), 503, "not-ready")["detail"]
    assert detail == f"the store has not been read yet: {folder} is not a folder"

    folder.mkdir()
    models.poll()
    assert client.get(path).status_code == 200

    folder.rmdir()
    models.poll()
    assert client.get(path).status_code == 200


def test_readyz_warns_of_a_store_that_was_lost(client, store, registry):
    """The service serves on and stays ready: the one copy of the models is in its memory."""
    store.root.rename(store.root.with_name("elsewhere"))
    store.root.mkdir()
    registry.poll()

    answer = client.get("/readyz")

    warning = f"the store cannot be read, loaded models stay: {store.root} is empty"
    assert (answer.status_code, answer.json) == (200, {"status": "ready", "warnings": [warning]})
    assert client.post("/score", json={"instances": [[1, 2, 3]]}).status_code == 200

    store.root.rmdir()
    store.root.with_name("elsewhere").rename(store.root)
    registry.poll()
    assert client.get("/readyz").json == {"status": "ready"}


def test_labels_that_cannot_be_read_stop_a_start_and_warn_a_running_service(
    settings, make_app, store, client
):
    """A fresh process does not know which version is meant; one that knew it serves on."""
    (store.root / "tiny" / "labels.json").write_text('{"stable": 1')
    client.application.extensions["residual"].models.poll()
    fresh = make_app(settings).test_client()
    row = {"instances": [[1, 2, 3]]}

    (warning,) = client.get("/readyz").json["warnings"]
    assert warning.startswith(f"tiny is not updated: {store.root}/tiny/labels.json cannot be read: ")
    assert client.post("/score", json=row).status_code == 200
    for path in ("/readyz", "/v2/health/ready"):
        detail = assert_problem(fresh.get(path), 503, "not-ready")["detail"]
        assert detail.startswith(
            f"required models are not loaded: tiny; {store.root}/tiny/labels.json cannot"
        )
    assert_problem(fresh.post("/score", json=row), 503, "not-ready")
    assert_problem(fresh.post("/models/tiny/labels/stable/score", json=row), 503, "not-ready")
    assert fresh.post("/models/tiny/versions/1/score", json=row).status_code == 200
    assert fresh.post("/models/flat/score", json=row).status_code == 200
    assert fresh.get("/models/tiny").json["version"] is None


@pytest.mark.parametrize(
    "changes",
    [{"default_model": "missing"}, {"required_models": ("tiny", "missing")}],
    ids=["default", "required"],
)
def test_readyz_names_what_is_missing_until_it_is_there(settings, make_app, store, changes):
    """A required model that is not in the store makes the service unready."""
    app = make_app(dataclasses.replace(settings, **changes))
    client = app.test_client()

    response = client.get("/readyz")
    assert "are not loaded: missing" in assert_problem(response, 503, "not-ready")["detail"]
    assert response.headers["Retry-After"] == "1"

    publish_model(store, "missing")
    follow(app.extensions["residual"].models)
    assert client.get("/readyz").status_code == 200


def test_readyz_is_not_ready_when_the_default_model_is_refused(settings, make_app, store):
    """A model with one flipped bit does not count as there."""
    path = store.folder("tiny", 1) / "golden.npz"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)

    client = make_app(settings).test_client()

    assert_problem(client.get("/readyz"), 503, "not-ready")
    assert_problem(client.post("/score", json={"instances": [[1, 2, 3]]}), 404, "no-such-model")
    assert client.get("/livez").status_code == 200


def test_readyz_does_not_mind_another_model_that_is_refused(settings, make_app, store):
    """Only the default model and the required ones count."""
    (store.folder("flat", 1) / "README.md").unlink()

    client = make_app(settings).test_client()

    assert client.get("/readyz").status_code == 200
    flat = client.get("/models/flat").json
    assert flat["version"] is None
    assert flat["versions"][0]["state"] == "refused"
    assert "README.md cannot be read" in flat["versions"][0]["reason"]
    version = client.get("/models/flat/versions/1").json
    assert (version["state"], version["manifest"]) == ("refused", None)


def test_models_lists_versions_and_labels(client, store, registry):
    """Loaded versions, and the version of a bare name."""
    publish_model(store)
    store.set_label("tiny", "stable", 1)
    follow(registry)

    answer = client.get("/models").json

    assert answer["default_model"] == "tiny"
    assert [model["name"] for model in answer["models"]] == ["flat", "images", "tiny"]
    tiny = answer["models"][2]
    assert (tiny["version"], tiny["labels"]) == (1, {"stable": 1})
    assert [(entry["version"], entry["state"], entry["reason"]) for entry in tiny["versions"]] == [
        (1, "loaded", None),
        (2, "loaded", None),
    ]
    assert client.get("/models/tiny").json == tiny


def test_versions_that_are_not_loaded_are_listed_and_answer(settings, make_app, store):
    """The newest two are loaded, any other one when a request names it; all are ready to V2."""
    for _ in range(4):
        publish_model(store)
    client = make_app(settings).test_client()

    def states() -> dict[int, str]:
        return {each["version"]: each["state"] for each in client.get("/models/tiny").json["versions"]}

    assert states() == {1: "available", 2: "available", 3: "available", 4: "loaded", 5: "loaded"}
    version = client.get("/models/tiny/versions/1").json
    assert (version["state"], version["manifest"]["version"]) == ("available", 1)
    assert client.get("/models/tiny/versions/1/report").status_code == 200
    assert client.get("/v2/models/tiny").json["versions"] == ["1", "2", "3", "4", "5"]
    assert client.get("/v2/models/tiny/versions/1/ready").status_code == 200
    index = client.post("/v2/repository/index").json
    assert {each["state"] for each in index} == {"READY"}
    assert [each["reason"] for each in index if each["name"] == "tiny"][2:] == [
        "a request for it loads it",
        "",
        "",
    ]

    answer = client.post("/models/tiny/versions/1/score", json={"instances": [[1, 2, 3]]})

    assert (answer.status_code, answer.headers["X-Model-Version"]) == (200, "1")
    assert states()[1] == "loaded"
    assert client.get("/models/tiny").json["version"] == 5


def test_request_for_a_version_that_does_not_load_is_told_so(settings, make_app, store):
    """At the first request and at the next ones."""
    for _ in range(2):
        publish_model(store)
    (store.folder("tiny", 1) / "README.md").unlink()
    client = make_app(settings).test_client()

    for _ in range(2):
        response = client.post("/models/tiny/versions/1/score", json={"instances": [[1, 2, 3]]})
        detail = assert_problem(response, 404, "no-such-model")["detail"]
        assert detail == "model 'tiny' has no version 1, only [2, 3]"


def test_models_follow_the_store_while_it_serves(settings, make_app, store):
    """The application polls by itself."""
    client = make_app(dataclasses.replace(settings, poll_seconds=0.02)).test_client()
    publish_model(store)

    end = time.monotonic() + 10
    while client.get("/models/tiny").json["version"] != 2:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_version_shows_its_manifest(client, registry):
    """The whole manifest, with the digest of the folder."""
    answer = client.get("/models/tiny/versions/1").json

    assert answer["manifest"]["sample_shape"] == answer["sample_shape"] == [3]
    assert answer["manifest"]["threshold"]["alpha"] == 0.05
    assert answer["digest"] == registry.entry("tiny").detector.digest


def test_report_is_shown_under_a_policy_of_its_own(client):
    """It can run no script and reach nothing."""
    response = client.get("/models/tiny/versions/1/report")

    assert response.text.startswith("<!doctype html>")
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
    )


@pytest.mark.parametrize(
    "path", ["/models/none", "/models/tiny/versions/2", "/models/tiny/versions/2/report"]
)
def test_unknown_models_are_not_found(client, path):
    """Unknown models and versions are refused alike."""
    assert_problem(client.get(path), 404, "no-such-model")
