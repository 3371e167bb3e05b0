"""The clients of Triton and of KServe, as their users install them, against the real gunicorn."""

import json
import os
import re
import subprocess

import numpy as np
import pytest
from sklearn.datasets import load_digits

from detector import Detector, ModelStore
from detector.images import encode_image
from detector.triton import model_config
from tests.environments import ROOT, SECONDS, make_environment
from tests.gunicorn_server import GunicornServer, wait_until

pytestmark = pytest.mark.slow

CLIENTS = ROOT / "tests" / "clients"


@pytest.fixture(scope="module")
def clients_python():
    """The Python of an environment with both clients."""
    return make_environment("clients") / "bin" / "python"


@pytest.fixture(scope="module")
def perf_analyzer():
    """A function that runs Triton's load generator and returns its report."""
    folder = make_environment("perf-analyzer")
    (cuda,) = folder.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")

    def run(*arguments):
        return subprocess.run(
            [folder / "bin" / "perf_analyzer", *arguments],
            env={**os.environ, "LD_LIBRARY_PATH": str(cuda)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    if run("--version").returncode:
        pytest.skip(f"perf_analyzer cannot start, it needs libb64: {run('--version').stderr.strip()[-300:]}")
    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory, arguments):
    """Two workers on the ready-made model, and maybe models of the user's own."""
    log = tmp_path_factory.mktemp("clients") / "log"
    server = GunicornServer(ModelStore(ROOT / "models"), log, arguments)
    yield server
    server.stop()


def run(python, *arguments):
    """Run a script and parse its output as JSON."""
    finished = subprocess.run(
        [python, *arguments], cwd=CLIENTS, capture_output=True, text=True, timeout=SECONDS
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_clients_get_the_scores_of_the_service(clients_python, server, tmp_path):
    """V1 and V2, JSON and binary agree to 1e-6; the script checks its other requests itself."""
    samples = load_digits().images[:5].astype(np.float32)
    samples[0] = 16 - samples[0]
    images = [encode_image(sample, (0.0, 16.0)) for sample in samples]
    np.savez(tmp_path / "samples.npz", samples=samples, images=np.array(images))
    files = [("file", (f"{position}.png", image)) for position, image in enumerate(images)]
    expected = server.post("/models/digits/score", json={"instances": samples.tolist()}).json()["score"]
    of_images = server.post("/models/digits/score", files=files).json()["score"]

    found = run(clients_python, "ask.py", server.url, str(tmp_path / "samples.npz"))

    assert len(found) >= 18
    for way, scores in found.items():
        wanted = of_images if way == "triton images" else expected
        np.testing.assert_allclose(scores, wanted, rtol=1e-6, err_msg=way)


def test_statistics_are_those_of_all_workers(server):
    """Any worker may answer; a request on a new connection is counted a moment later."""

    def read():
        return server.get("/v2/models/digits/stats").json()["model_stats"][0]

    before = read()
    for _ in range(20):
        server.post("/v1/models/digits:predict", json={"instances": [np.zeros((8, 8)).tolist()] * 3})
    wait_until(lambda: read()["inference_count"] == before["inference_count"] + 60)

    after = [read() for _ in range(8)]

    assert {each["inference_count"] - before["inference_count"] for each in after} == {60}
    successes = {each["inference_stats"]["success"]["count"] for each in after}
    assert {count - before["inference_stats"]["success"]["count"] for count in successes} == {20}
    assert all(each["last_inference"] > before["last_inference"] for each in after)


def test_tritons_own_schema_reads_the_configuration(clients_python):
    """Nothing of it is lost or unknown."""
    read = run(clients_python, "read_config.py", str(ROOT / "models" / "digits" / "config.pbtxt"))
    written = model_config(Detector.load(ROOT / "models" / "digits" / "1").manifest)

    assert read["name"] == "digits"
    assert read["max_batch_size"] == written["max_batch_size"]
    for role in ("input", "output"):
        assert [tensor["name"] for tensor in read[role]] == [tensor["name"] for tensor in written[role]]
        assert [[int(size) for size in tensor["dims"]] for tensor in read[role]] == [
            tensor["dims"] for tensor in written[role]
        ]
    assert read["parameters"] == written["parameters"]


def test_tritons_own_schema_reads_the_configuration_of_the_service(clients_python, server, tmp_path):
    """The route has every output of `infer`, with the names of Triton's datatypes."""
    (tmp_path / "config.json").write_text(server.get("/v2/models/digits/config").text)

    read = run(clients_python, "read_config.py", str(tmp_path / "config.json"))

    assert (read["name"], read["max_batch_size"]) == ("digits", 100_000)
    assert read["version_policy"] == {"specific": {"versions": ["1"]}}
    metadata = server.get("/v2/models/digits").json()
    assert {tensor["name"]: tensor["data_type"] for tensor in read["output"]} == {
        tensor["name"]: f"TYPE_{tensor['datatype']}" for tensor in metadata["outputs"]
    }
    assert read["input"][0]["dims"] == ["8", "8"]


@pytest.mark.parametrize(
    ("more", "batch", "clients"), [((), 1, 1), (("-x", "1", "-b", "3", "--concurrency-range", "4"), 3, 4)]
)
def test_perf_analyzer_reports(perf_analyzer, server, more, batch, clients):
    """Triton's load generator reports, with any batch, and for one version.

    It reads the statistics amid requests, whose samples are counted a moment before the requests themselves.
    """
    quick = ("--measurement-mode", "count_windows", "--measurement-request-count", "30", "-s", "900")

    finished = perf_analyzer("-m", "digits", "-u", server.url.removeprefix("http://"), *more, *quick)

    report = finished.stdout
    assert finished.returncode == 0, report + finished.stderr
    rows, requests = (
        int(re.search(rf"{words} count: (\d+)", report)[1]) for words in ("Inference", "Successful request")
    )
    assert requests >= 90 - clients
    assert rows == pytest.approx(requests * batch, abs=2 * clients * batch)
    assert re.search(r"compute infer [1-9]\d* usec", report)
    assert re.search(r"throughput: [1-9]", report)
