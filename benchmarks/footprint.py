"""Memory and start of the service: how long until it answers, what a worker holds, whether that grows.

  python benchmarks/footprint.py --out benchmarks/results/footprint.json
  python benchmarks/footprint.py --parts start --models digits --repeats 1 --out start.json

Memory is the proportional set size, which counts memory that processes share once. Parts:

  start    `gunicorn -c deploy/gunicorn.conf.py` with two workers: seconds until the first 200 of /readyz and
           until the first score, then its memory
  batches  memory of one worker after 0, 80, 160 and 240 bodies of 1 to 512 rows, by settings of malloc
  options  the same for a bare session by its options, in chunks of 256 rows as in the service
  sharing  memory of two processes with one model: opened by each, opened before a fork, or mapped from an
           .ort file

Models: digits is the ready-made one; large has 17 million weights, twice in its three graphs, 136 MB;
large-int8 is the same in integers. A row that the file has is not measured again.
"""

import functools
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from benchmarks import commands, fit_command
from benchmarks.environments import ROOT
from benchmarks.rows import Row, found_or_measured, read_rows
from benchmarks.servers import usage
from benchmarks.servers.processes import START_SECONDS, Service, clean_environ, running_service
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
    *("--kind", "vector", "--preset", "dense", "--widths", "2048,2048", "--latent-dim", "64"),
    *("--epochs", "1", "--no-collapse-check"),
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
    *("no pattern", "pattern", "no pattern, arena shrinkage"),
    *("no pattern, no arena", "pattern, no arena"),
)
VARIANTS = {"start": ("",), "batches": MALLOC, "options": OPTIONS, "sharing": ("each", "fork", "mapped")}
MAPPED = {
    "use_memory_mapped_ort_model": "1",
    "use_ort_model_bytes_for_initializers": "1",
    "disable_prepacking": "1",
}
NPY = {"Content-Type": "application/x-npy"}
ROUNDS, BODIES, MOST_ROWS = 3, 80, 512
SETTLE_SECONDS = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows that are missing, print all rows of the file."""
    parser = commands.parser(__doc__)
    for flag, known in (("--parts", list(PARTS)), ("--models", list(PARTS["start"]))):
        parser.add_argument(flag, type=commands.names, default=known, help="default: " + ",".join(known))
    parser.add_argument(
        "--repeats", type=int, default=3, help="starts for each row; it has their medians (default: 3)"
    )
    arguments = parser.parse_args(argv)
    for part, models in PARTS.items():
        for name in models:
            if part in arguments.parts and name in arguments.models:
                for variant in VARIANTS[part]:
                    measure = functools.partial(_measure, part, name, variant, arguments.repeats)
                    found_or_measured(arguments.out, measure, part=part, model=name, variant=variant)
    for row in read_rows(arguments.out):
        print(json.dumps(row))
    return 0


def _measure(part: str, name: str, variant: str, repeats: int) -> Row:
    print(f"{part}, {name} {variant}", file=sys.stderr)
    store = _store(name)
    if part == "start":
        row = measure_start(store, name, repeats)
    elif part == "batches":
        row = measure_batches(store, name, variant)
    else:
        row = probe(part, variant, store / name / "1")
    return {"part": part, "model": name, "variant": variant, **row}


def _store(name: str) -> Path:
    """Return the store of a model; fit it to noise if it is missing: its weights do not matter here."""
    if name == "digits":
        return ROOT / "models"
    store = FOLDER / "stores" / name
    if not (store / name).is_dir():
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "noise.npz"
            np.savez(data, X=np.random.default_rng(0).random((400, N_FEATURES), dtype=np.float32))
            quantize = ["--quantize", "int8"] if name.endswith("int8") else []
            fit_command.fit(data, store, name, *FIT, *quantize)
    return store


# --- the service --------------------------------------------------------------------------------------------


def _settled_mb(service: Service, n_workers: int) -> list[float]:
    """Return the memory of each process once all workers have loaded: the master's first."""

    def processes() -> list[int]:
        return usage.tree(service.process.pid, service.mark)

    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and len(processes()) < n_workers + 1:
        time.sleep(0.1)
    usage.wait_until_idle(processes)
    time.sleep(SETTLE_SECONDS)
    master = service.process.pid
    workers = [process for process in processes() if process != master]
    return [round(usage.memory_mb([process]), 1) for process in (master, *workers)]


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _samples(folder: Path, n_rows: int) -> np.ndarray:
    shape = Detector.load(folder).manifest.sample_shape
    return np.random.default_rng(n_rows).random((n_rows, *shape), dtype=np.float32)


def _serving(store: Path, name: str, n_workers: int, malloc: str) -> AbstractContextManager[Service]:
    variables = {"RESIDUAL_DEFAULT_MODEL": name, "RESIDUAL_WORKERS": str(n_workers)}
    return running_service(store, **variables, **MALLOC[malloc])


def measure_start(store: Path, name: str, repeats: int) -> Row:
    """Measure seconds until ready and until the first score, and the memory of two workers; medians."""
    body, runs = _npy(_samples(store / name / "1", 1)), []
    for _ in range(repeats):
        with _serving(store, name, 2, "none") as service:
            service.post("/score", body, NPY)
            score_seconds = time.perf_counter() - service.begin
            master, *workers = _settled_mb(service, 2)
        runs.append(
            {
                "ready_seconds": service.ready_seconds,
                "score_seconds": score_seconds,
                "master_mb": master,
                "worker_mb": statistics.mean(workers),
                "total_mb": master + sum(workers),
            }
        )
    return {"repeats": repeats} | {
        name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]
    }


def measure_batches(store: Path, name: str, malloc: str) -> Row:
    """Measure the memory of one worker after 0, 80, 160 and 240 bodies with random numbers of rows."""
    rng = np.random.default_rng(0)
    whole = _samples(store / name / "1", MOST_ROWS)
    with _serving(store, name, 1, malloc) as service:
        memory = [_settled_mb(service, 1)[1]]
        for _ in range(ROUNDS):
            for n_rows in rng.integers(1, MOST_ROWS, BODIES, endpoint=True):
                service.post("/score", _npy(whole[:n_rows]), NPY)
            memory.append(_settled_mb(service, 1)[1])
    return {"memory_mb": memory}


# --- sessions in processes of their own ---------------------------------------------------------------------


def probe(part: str, variant: str, folder: Path) -> Row:
    """Run `probe_options` or `probe_sharing` with `model.onnx` in a fresh process."""
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
    """Measure the memory of this process after 0, 80, 160 and 240 batches of random size."""
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
    """Measure the memory of two children, seconds to open the session, µs for a row and for a batch.

    Each child opens a session, or both use the session of their parent.
    """
    if way != "mapped":
        return _two_children(lambda: _session(path), before_fork=way == "fork")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model"
        copy.write_bytes(Path(path).read_bytes())
        # In a child, because the process that makes the file keeps the model on its heap.
        if (child := os.fork()) == 0:
            _session(str(copy), save_model_format="ORT", disable_prepacking="1")
            os._exit(0)
        os.waitpid(child, 0)
        return _two_children(lambda: _session(f"{copy}.ort", **MAPPED), before_fork=False)


def _two_children(load: Callable[[], ort.InferenceSession], *, before_fork: bool) -> Row:
    start = time.perf_counter()
    session = load() if before_fork else None
    seconds = time.perf_counter() - start
    answers, children = [], []
    for _ in range(2):  # one after the other, so that they do not slow each other
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
    """Return the median time of a run with 1 row and with 32 rows."""
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
        commands.run(main)
