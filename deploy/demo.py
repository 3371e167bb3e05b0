"""Fit a model of one digit, serve it with gunicorn, score a normal and an anomalous image: `make demo`.

It uses a store and a port of its own and removes everything in the end.
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
HELD_OUT = 20  # images of each sort; 158 zeros remain, and a promise of 5 % needs 59 for calibration
START_SECONDS = 60


def main() -> int:
    """Run the demonstration; return 0 if the service calls one image normal and the other an anomaly."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped, too
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
    """Return the zeros and the other digits of scikit-learn, each of shape (n, 8, 8), uint8, 0 to 16."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.uint8)
    return images[labels == NORMAL_DIGIT], images[labels != NORMAL_DIGIT]


def write_data(path: Path, zeros: np.ndarray, others: np.ndarray) -> None:
    """Write a data file; its test split, never fitted on, has the first `HELD_OUT` images of each kind."""
    x_train = zeros[HELD_OUT:]
    x_test = np.concatenate([zeros[:HELD_OUT], others[:HELD_OUT]])
    is_other = np.repeat([0, 1], HELD_OUT)
    np.savez(path, x_train=x_train, y_train=np.zeros(len(x_train), int), x_test=x_test, y_test=is_other)


def fit(data: Path, store: Path) -> None:
    """Fit, calibrate and publish a model of the zeros with `training.fit`."""
    options = ["--name", "zeros", "--kind", "image", "--value-range", "0,16", "--normal-label", "0"]
    command = [sys.executable, "-m", "training.fit", "--data", str(data), "--store", str(store), *options]
    print("$ python -m training.fit --data digits.npz", *options, flush=True)
    environ = os.environ | {"TMPDIR": str(store.parent)}  # TensorFlow leaves files there
    if subprocess.run(command, cwd=ROOT, env=environ).returncode:
        raise SystemExit("error: the fit failed")


def start_service(store: Path, log: Path) -> tuple[subprocess.Popen, str]:
    """Start gunicorn on a free loopback port; return the process and its URL."""
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
    """Wait for 200 from `/readyz`; exit with the log if the service ends or is not ready in time."""
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
    """Score the most typical of some held-out images, print the answer, return the decision.

    With a promise of 5 % up to one normal image in twenty is called an anomaly, so a fixed choice could hit
    one: the image shown has the median score of its sort.
    """
    order = np.argsort(score(url, images)["score"])
    answer = score(url, images[order[[len(order) // 2]]])
    is_anomaly = answer["is_anomaly"][0]
    print(f"\n{title}:")
    print(
        f"score={answer['score'][0]:.6g} threshold={answer['threshold']:.6g} "
        f"p_value={answer['p_value'][0]:.4f} is_anomaly={str(is_anomaly).lower()}",
        flush=True,
    )
    return is_anomaly


def score(url: str, images: np.ndarray) -> dict:
    """Return the answer of `/score` for images of shape (n, 8, 8)."""
    response = requests.post(f"{url}/score", json={"instances": images.tolist()}, timeout=30)
    response.raise_for_status()
    return response.json()


def stop(server: subprocess.Popen) -> None:
    """Stop gunicorn with its workers; kill it if it does not end in time."""
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
