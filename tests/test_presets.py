"""Every preset from data to an answer over HTTP: fitted by the command line, published, served."""

import numpy as np
import pytest

from detector import Detector, ModelStore
from tests.gunicorn_server import GunicornServer
from tests.service.responses import from_npy, to_npy
from training import fit
from training.presets import PRESETS
from training.publishing.graphs import PARITY_TOLERANCE

pytestmark = pytest.mark.slow

N_SAMPLES = 100


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Discs of 12 x 12 grey or 8 x 8 coloured pixels, and noisy waves of two channels; as `.npz` by kind."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:12, :12]
    centres = rng.uniform(4, 8, size=(2, N_SAMPLES, 1, 1))
    discs = np.hypot(rows - centres[0], columns - centres[1]) < rng.uniform(2, 4, size=(N_SAMPLES, 1, 1))
    grey = (40 + 180 * discs).astype(np.uint8)
    phase = rng.uniform(0, 6, size=(N_SAMPLES, 1, 2))
    waves = np.sin(np.arange(16)[:, np.newaxis] / 2 + phase) + rng.normal(0, 0.1, size=(N_SAMPLES, 16, 2))
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "image.npz", X=grey)
    middle = grey[:, 2:10, 2:10]  # the largest networks are for colours
    np.savez(folder / "colours.npz", X=np.stack([middle, middle // 2, 255 - middle], axis=-1))
    np.savez(folder / "sequence.npz", X=waves.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    """One model of every preset."""
    store = ModelStore(tmp_path_factory.mktemp("presets") / "models")
    for name, preset in PRESETS.items():
        kind = "image" if "image" in preset.kinds or "vector" in preset.kinds else "sequence"
        source = "colours" if name.startswith("conv-rgb") else kind
        arguments = ["--data", str(data / f"{source}.npz"), "--name", name, "--store", str(store.root)]
        short = ["--epochs", "1", "--no-promise", "--no-samples"]
        assert fit.main([*arguments, "--preset", name, *short]) == 0, name
    return store


@pytest.fixture(scope="module")
def server(store, tmp_path_factory, arguments):
    """One gunicorn for all of them."""
    server = GunicornServer(store, tmp_path_factory.mktemp("log") / "log", arguments)
    yield server
    server.stop()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_fitted_published_and_served(name, store, server):
    """Within the gate of parity, and with the scores that a notebook gets."""
    detector = Detector.load(store.folder(name, 1))
    shape = detector.manifest.sample_shape
    samples = np.random.default_rng(1).uniform(0, 200, size=(5, *shape)).astype(np.float32)

    answer = server.post(
        f"/models/{name}/score",
        data=to_npy(samples),
        headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
    )

    assert answer.status_code == 200, answer.content
    np.testing.assert_array_equal(from_npy(answer.content), detector.score(samples).score)
    differences = {
        output: value for output, value in detector.manifest.training["parity"].items() if ":" in output
    }
    assert len(differences) >= 6
    assert max(differences.values()) <= PARITY_TOLERANCE
    assert detector.manifest.training["configuration"]["preset"] == name
