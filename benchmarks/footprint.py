"""Memory and start of the service: how long until it answers, what a worker holds, whether that grows.

  python benchmarks/footprint.py --out benchmarks/results/footprint.json
  python benchmarks/footprint.py --parts start --models digits --repeats 1 --out start.json

Parts: `start` is `gunicorn -c deploy/gunicorn.conf.py` with two workers until the first 200 of /readyz and
until the first score, then its memory as proportional set size, which counts once what processes share;
`batches` the memory of one worker after 0, 80, 160 and 240 bodies of 1 to 512 rows, by settings of malloc;
`options` the same of a bare session by its options, in chunks of 256 rows as in the service; `sharing` the
memory of two processes with one model: opened by each, opened before a fork, or mapped from an .ort file.
Models: digits is the ready-made one; large has 17 million weights, in its three graphs twice, 136 MB;
large-int8 is the same in integers. Rows that the file has already are not measured again.
"""

import argparse
import http.client
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.environments import ROOT
from benchmarks.rows import Row, find_row, read_rows, write_rows
from benchmarks.servers import usage
from benchmarks.servers.contenders import clean_environ, free_port
from benchmarks.servers.work import FOLDER
from detector import Detector
from detector.engine.session import CHUNK_ROWS, ort
from service.models.malloc import give_back

PARTS = {
    "start": ("digits", "large", "large-int8"),
    "batches": ("digits", "large"),
    "options": ("digits", "large"),
    "sharing": ("large",),
}
N_FEATURES = 2048
FIT = (
    "--kind",
    "vector",
    "--preset",
    "dense",
    "--widths",
    "2048,2048",
    "--latent-dim",
    "64",
    "--epochs",
    "1",
)
MALLOC = {
    "none": {},
    "MALLOC_ARENA_MAX=2": {"MALLOC_ARENA_MAX": "2"},
    "MALLOC_ARENA_MAX=1, MALLOC_TRIM_THRESHOLD_=100000": {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "100000",
    },
}
OPTIONS = (
    "no pattern",
    "pattern",
    "no pattern, arena shrinkage",
    "no pattern, no arena",
    "pattern, no arena",
)
SHARING = ("each", "fork", "mapped")
ROUNDS, BODIES, MOST_ROWS = 3, 80, 512
START_SECONDS, SETTLE_SECONDS, STOP_SECONDS = 60, 1.0, 15


def main() -> int:
    """Run the command line; see the module's docstring."""
    arguments = _parser().parse_args()
    rows = read_rows(arguments.out)
    for part, names in PARTS.items():
        for name in names:
            if part in arguments.parts and name in arguments.models:
                for row in _missing(rows, part, name, arguments.repeats):
                    rows.append(row)
                    write_rows(arguments.out, rows)
    for row in rows:
        print(json.dumps(row))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    models = PARTS["start"]
    for flag, names in (("--parts", list(PARTS)), ("--models", list(models))):
        parser.add_argument(flag, type=_names, default=names, help="default: " + ",".join(names))
    parser.add_argument("--repeats", type=int, default=3, help="of each start; medians are kept (default: 3)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; its rows are not measured again")
    return parser


def _names(text: str) -> list[str]:
    return text.split(",")


def _missing(rows: list[Row], part: str, name: str, repeats: int) -> Iterator[Row]:
    """What the file does not have of one part and model."""
    variants: dict[str, Callable[[Path, str], Row]] = {
        "start": {"": lambda store, _: measure_start(store, name, repeats)},
        "batches": dict.fromkeys(MALLOC, lambda store, malloc: measure_batches(store, name, malloc)),
        "options": dict.fromkeys(OPTIONS, lambda store, option: probe("options", option, store / name / "1")),
        "sharing": dict.fromkeys(SHARING, lambda store, way: probe("sharing", way, store / name / "1")),
    }[part]
    for variant, measure in variants.items():
        key = {"part": part, "model": name, "variant": variant}
        if find_row(rows, **key) is None:
            print(f"{part}, {name} {variant}", file=sys.stderr)
            yield key | measure(_store(name), variant)


def _store(name: str) -> Path:
    """The store that holds this model; made where it is missing, of noise: weights do not matter here."""
    if name == "digits":
        return ROOT / "models"
    store = FOLDER / "stores" / name
    if not (store / name).is_dir():
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "noise.npz"
            np.savez(data, X=np.random.default_rng(0).random((400, N_FEATURES), dtype=np.float32))
            command = [sys.executable, "-m", "training.fit", "--data", str(data), "--name", name, *FIT]
            command += ["--store", str(store), "--no-collapse-check"]
            command += ["--quantize", "int8"] * name.endswith("int8")
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return store


# --- the service --------------------------------------------------------------------------------------------


class Service:
    """The service with one model, as a process of its own; `seconds` until it was ready."""

    def __init__(self, store: Path, name: str, workers: int, malloc: str = "none") -> None:
        self.name, self.port, self.mark = name, free_port(), uuid.uuid4().hex
        environ = clean_environ() | MALLOC[malloc]
        environ |= {
            "RESIDUAL_STORE": str(store),
            "RESIDUAL_DEFAULT_MODEL": name,
            "RESIDUAL_BIND": f"127.0.0.1:{self.port}",
            "RESIDUAL_WORKERS": str(workers),
            usage.MARK: self.mark,
        }
        command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "deploy" / "gunicorn.conf.py")]
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.workers = workers
        self.seconds = self._wait()

    def _wait(self) -> float:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.ask("GET", "/readyz") == 200:
                    return time.perf_counter() - self.begin
            except OSError:
                pass
            time.sleep(0.01)
        raise SystemExit(f"error: the service is not ready with {self.name} within {START_SECONDS} s")

    def ask(self, method: str, path: str, body: bytes | None = None) -> int:
        """Status of one request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/x-npy"} if body else {})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def settled_mb(self) -> list[float]:
        """Memory of each process once all workers have loaded: the master's first."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and len(usage.tree(self.process.pid, self.mark)) < self.workers + 1:
            time.sleep(0.1)
        usage.wait_until_idle(lambda: usage.tree(self.process.pid, self.mark))
        time.sleep(SETTLE_SECONDS)
        workers = [
            process for process in usage.tree(self.process.pid, self.mark) if process != self.process.pid
        ]
        return [round(usage.memory_mb([process]), 1) for process in (self.process.pid, *workers)]

    def end(self) -> None:
        """In order, then by force."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def served(*arguments: object) -> Iterator[Service]:
    """A service that is ready, ended in the end."""
    service = Service(*arguments)
    try:
        yield service
    finally:
        service.end()


def _body(folder: Path, n_rows: int) -> bytes:
    shape = Detector.load(folder).manifest.sample_shape
    content = io.BytesIO()
    np.save(content, np.random.default_rng(n_rows).random((n_rows, *shape), dtype=np.float32))
    return content.getvalue()


def measure_start(store: Path, name: str, repeats: int) -> Row:
    """Seconds until ready and until the first score, and the memory of two workers; medians."""
    body, figures = _body(store / name / "1", 1), []
    for _ in range(repeats):
        with served(store, name, 2) as service:
            if service.ask("POST", "/score", body) != 200:
                raise SystemExit(f"error: {name} must answer 200")
            score_seconds = time.perf_counter() - service.begin
            master, *workers = service.settled_mb()
        figures.append(
            (service.seconds, score_seconds, master, statistics.mean(workers), master + sum(workers))
        )
    names = ("ready_seconds", "score_seconds", "master_mb", "worker_mb", "total_mb")
    columns = zip(*figures, strict=True)
    return {"repeats": repeats} | {
        name: round(statistics.median(column), 2) for name, column in zip(names, columns, strict=True)
    }


def measure_batches(store: Path, name: str, malloc: str) -> Row:
    """Memory of one worker after 0, 80, 160 and 240 bodies of random numbers of rows."""
    rng = np.random.default_rng(0)
    whole = np.load(io.BytesIO(_body(store / name / "1", MOST_ROWS)))
    with served(store, name, 1, malloc) as service:
        memory = [service.settled_mb()[1]]
        for _ in range(ROUNDS):
            for n_rows in rng.integers(1, MOST_ROWS, BODIES, endpoint=True):
                content = io.BytesIO()
                np.save(content, whole[:n_rows])
                if service.ask("POST", "/score", content.getvalue()) != 200:
                    raise SystemExit(f"error: {name} must answer 200")
            memory.append(service.settled_mb()[1])
    return {"memory_mb": memory}


# --- sessions in processes of their own ---------------------------------------------------------------------


def probe(part: str, variant: str, folder: Path) -> Row:
    """What `probe_options` or `probe_sharing` measures with `model.onnx`, in a fresh process."""
    command = [sys.executable, __file__, "--probe", part, variant, str(folder / "model.onnx")]
    environ = clean_environ() | {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True)
    return json.loads(finished.stdout)


def _session(path: str, option: str = "no pattern", **entries: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = "no pattern" not in option
    options.enable_cpu_mem_arena = "no arena" not in option
    options.log_severity_level = 4
    for key, value in entries.items():
        options.add_session_config_entry(f"session.{key}", value)
    if "save_model_format" in entries:
        options.optimized_model_filepath = f"{path}.ort"
    source = path if entries else Path(path).read_bytes()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    session._model_bytes = None
    give_back()
    return session


def probe_options(option: str, path: str) -> Row:
    """Memory of this process after 0, 80, 160 and 240 batches of random size."""
    rng, session, run = np.random.default_rng(0), _session(path, option), ort.RunOptions()
    if "shrinkage" in option:
        run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    whole = rng.random((MOST_ROWS, *session.get_inputs()[0].shape[1:]), dtype=np.float32)
    memory = [usage.memory_mb([os.getpid()])]
    for _ in range(ROUNDS):
        for n_rows in rng.integers(1, MOST_ROWS, BODIES, endpoint=True):
            for start in range(0, n_rows, CHUNK_ROWS):
                session.run(None, {"samples": whole[start : min(n_rows, start + CHUNK_ROWS)]}, run)
        memory.append(usage.memory_mb([os.getpid()]))
    return {"memory_mb": [round(megabytes, 1) for megabytes in memory]}


def probe_sharing(way: str, path: str) -> Row:
    """Memory of two children with a session each, or with that of their parent; seconds to open, µs a row."""
    if way != "mapped":
        return _two_children(lambda: _session(path), before_fork=way == "fork")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model"
        copy.write_bytes(Path(path).read_bytes())
        # In a child: a process that has made the file holds the model on its heap.
        if (child := os.fork()) == 0:
            _session(str(copy), save_model_format="ORT", disable_prepacking="1")
            os._exit(0)
        os.waitpid(child, 0)
        entries = (
            "use_memory_mapped_ort_model",
            "use_ort_model_bytes_for_initializers",
            "disable_prepacking",
        )
        return _two_children(
            lambda: _session(f"{copy}.ort", **dict.fromkeys(entries, "1")), before_fork=False
        )


def _two_children(load: Callable[[], ort.InferenceSession], *, before_fork: bool) -> Row:
    start = time.perf_counter()
    session = load() if before_fork else None
    seconds = time.perf_counter() - start
    answers, children = [], []
    for _ in range(2):  # one after the other, for the sake of their times
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            start = time.perf_counter()
            own = session or load()
            own_seconds = seconds if session else time.perf_counter() - start
            os.write(writing, json.dumps([own_seconds, *_row_and_batch_us(own)]).encode())
            signal.pause()
        answers.append(json.loads(os.read(reading, 1000)))
        children.append(child)
    names = ("open_seconds", "row_us", "batch_us")
    row = {
        name: round(statistics.mean(column), 3)
        for name, column in zip(names, zip(*answers, strict=True), strict=True)
    }
    row["process_mb"] = round(statistics.mean(usage.memory_mb([child]) for child in children), 1)
    row["total_mb"] = round(usage.memory_mb([os.getpid(), *children]), 1)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return row


def _row_and_batch_us(session: ort.InferenceSession) -> list[float]:
    """Medians of a run of 1 row and of 32."""
    medians = []
    for n_rows in (1, 32):
        batch = np.zeros((n_rows, *session.get_inputs()[0].shape[1:]), dtype=np.float32)
        seconds = []
        for _ in range(100):
            start = time.perf_counter()
            session.run(["score"], {"samples": batch})
            seconds.append(time.perf_counter() - start)
        medians.append(round(statistics.median(seconds) * 1e6))
    return medians


if __name__ == "__main__":
    if sys.argv[1:2] == ["--probe"]:
        part, variant, path = sys.argv[2:]
        print(json.dumps({"options": probe_options, "sharing": probe_sharing}[part](variant, path)))
    else:
        sys.exit(main())
