"""Small requests while clients post as many large ones as they can."""

import collections
import http.client
import json
import threading
import time
from collections.abc import Mapping

import numpy as np
import pytest

from detector import ModelStore
from detector.images import encode_image
from tests.gunicorn_server import SECONDS, GunicornServer
from tests.model_folder import publish_model
from tests.service.responses import to_npy

pytestmark = pytest.mark.slow

SHAPE = (8, 8)
LOAD_SECONDS = 0.8
N_LARGE, N_SMALL = 16, 8

IMAGE = encode_image(np.ones(SHAPE, np.float32), (0.0, 16.0))
PART = b'--cut\r\nContent-Disposition: form-data; name="f"; filename="f.png"\r\n\r\n%b\r\n'
ROWS = to_npy(np.ones((20_000, *SHAPE), np.float32))
LARGE = {
    "denoise": ("/denoise", "application/x-npy", ROWS),
    "score": ("/score", "application/x-npy", ROWS),
    "images": ("/score", "multipart/form-data; boundary=cut", PART % IMAGE * 500 + b"--cut--\r\n"),
}
SMALL = {
    "row": ("/score", "application/json", json.dumps({"instances": np.ones((1, *SHAPE)).tolist()}).encode()),
    "image": ("/score", "image/png", IMAGE),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server of a model of images, with one worker."""
    store = ModelStore(tmp_path_factory.mktemp("beside") / "models")
    publish_model(store, sample_shape=SHAPE)
    server = GunicornServer(store, tmp_path_factory.mktemp("log") / "log", workers=1)
    yield server
    server.stop()


def post_for_a_while(server, body: tuple, counts: Mapping[int, int], end: float) -> None:
    """Post a body again and again, and count the answers by status."""
    path, content_type, content = body
    connection = http.client.HTTPConnection(*server.address, timeout=SECONDS)
    while time.monotonic() < end:
        connection.request("POST", path, content, {"Content-Type": content_type})
        response = connection.getresponse()
        response.read()
        counts[response.status] += 1
        time.sleep(0.01)  # or the clients themselves would fill the machine
    connection.close()


@pytest.mark.parametrize("load", LARGE)
def test_small_requests_are_answered_beside_large_ones(server, load):
    """None of them is refused, although large ones are."""
    counts = {name: collections.Counter() for name in (load, *SMALL)}
    end = time.monotonic() + LOAD_SECONDS
    clients = [(LARGE[load], counts[load])] * N_LARGE
    for name, body in SMALL.items():
        clients += [(body, counts[name])] * (N_SMALL // len(SMALL))

    threads = [threading.Thread(target=post_for_a_while, args=(server, *client, end)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {status for name in SMALL for status in counts[name]} == {200}, counts
    assert counts[load].keys() <= {200, 503}
    assert all(counts[name] for name in SMALL)
