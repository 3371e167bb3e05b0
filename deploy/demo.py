"""Fit a model of one digit, serve it with gunicorn, score a normal and an anomalous image: `make demo`.

Uses a store and a port of its own, and leaves nothing behind.
"""
# ruff: noqa: S603, T201 -- a demonstration prints, and starts the project's own programs

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import requests
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parent.parent
NORMAL_DIGIT = 0
HELD_OUT = 20  # images of each sort; 158 zeros remain, and 59 of them carry a promise of 5 %
START_SECONDS = 60


def main() -> int:
    """Run the demonstration; 0 if one image was called normal and the other one an anomaly."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped then, too
    zeros, others = split_digits()
    with tempfile.TemporaryDirectory(prefix="residual-demo-") as work:
        store = Path(work, "models")
        data = Path(work, "digits.npz")
        write_data(data, zeros, others)
        fit(data, store)
        server, url = start_service(store, Path(work, "service.log"))
        try:
            wait_until_ready(server, url, Path(work, "service.log"))
            normal = show(url, "a zero, which is normal", zeros[:HELD_OUT])
            anomaly = show(url, "another digit, which is not", others[:HELD_OUT])
        finally:
            stop(server)
    return 0 if (normal, anomaly) == (False, True) else 1


def split_digits() -> tuple[np.ndarray, np.ndarray]:
    """The zeros and the other digits of scikit-learn, each shape (n, 8, 8), uint8, 0 to 16."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.uint8)
    return images[labels == NORMAL_DIGIT], images[labels != NORMAL_DIGIT]


def write_data(path: Path, zeros: np.ndarray, others: np.ndarray) -> None:
    """Write a data file whose test split, never fitted on, is the first `HELD_OUT` of each sort."""
    x_train = zeros[HELD_OUT:]
    x_test = np.concatenate([zeros[:HELD_OUT], others[:HELD_OUT]])
    is_other = np.repeat([0, 1], HELD_OUT)
    np.savez(path, x_train=x_train, y_train=np.zeros(len(x_train), int), x_test=x_test, y_test=is_other)


def fit(data: Path, store: Path) -> None:
    """Fit, calibrate and publish a model of the zeros with `training.fit`."""
    options = ["--name", "zeros", "--kind", "image", "--value-range", "0,16", "--normal-label", "0"]
    command = [sys.executable, "-m", "training.fit", "--data", str(data), "--store", str(store), *options]
    print("$ python -m training.fit --data digits.npz", *options, flush=True)
    environ = os.environ | {"TMPDIR": str(store.parent)}  # where TensorFlow leaves files behind
    if subprocess.run(command, cwd=ROOT, env=environ).returncode:
        raise SystemExit("error: the fit failed")


def start_service(store: Path, log: Path) -> tuple[subprocess.Popen, str]:
    """Start gunicorn on a free port of loopback; the process and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RESIDUAL_")}
    environ |= {"RESIDUAL_STORE": str(store), "RESIDUAL_BIND": address}
    print("$ gunicorn -c deploy/gunicorn.conf.py", flush=True)
    with log.open("wb") as output:
        command = [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py"]
        server = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT)
    return server, f"http://{address}"


def wait_until_ready(server: subprocess.Popen, url: str, log: Path) -> None:
    """Wait for 200 from `/readyz`; a service that ends or stays silent is an error with its log."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(f"{url}/readyz", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass  # not listening yet
        time.sleep(0.2)
    raise SystemExit(f"error: the service is not ready within {START_SECONDS} s:\n{log.read_text()}")


def show(url: str, title: str, images: np.ndarray) -> bool:
    """Score the most typical of some held-out images, print the answer, return the verdict.

    With a promise of 5 % about one normal image in twenty is called an anomaly, so a fixed one might be it:
    the image shown is the one with the median score of all of its sort.
    """
    order = np.argsort(score(url, images)["score"])
    answer = score(url, images[order[[len(order) // 2]]])
    verdict = answer["is_anomaly"][0]
    print(f"\n{title}:")
    print(
        f"score={answer['score'][0]:.6g} threshold={answer['threshold']:.6g} "
        f"p_value={answer['p_value'][0]:.4f} is_anomaly={str(verdict).lower()}",
        flush=True,
    )
    return verdict


def score(url: str, images: np.ndarray) -> dict:
    """The answer of `/score` for images of shape (n, 8, 8)."""
    response = requests.post(f"{url}/score", json={"instances": images.tolist()}, timeout=30)
    response.raise_for_status()
    return response.json()


def stop(server: subprocess.Popen) -> None:
    """Stop gunicorn with its workers: asked first, killed if it does not listen."""
    server.terminate()
    try:
        server.wait(timeout=40)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
