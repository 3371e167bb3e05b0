"""Probes, and the list of models."""

import dataclasses
import time

import pytest

from tests.model_folder import publish_model
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
    app.extensions["residual"].models.poll()
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
    registry.poll()

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
