"""Score files with a service or with a model folder; both give the same figures.

  residual score readings.csv --url http://127.0.0.1:8000 --model pump --out scores.csv
  residual score readings.csv --model models/pump --out scores.parquet
  residual score digits.npy --model models/digits --explain 3 --format ndjson
  residual score photos/ --url http://127.0.0.1:8000 --anomalies-only
  residual classify readings.parquet --url http://127.0.0.1:8000 --model pump@canary
  residual denoise digits.npy --model models/digits --out clean.npy
  residual encode digits.npy --model models/digits --out latents.npy

FILE is a table with a header (.csv, .tsv, .parquet), lines of JSON (.ndjson, .jsonl), an array (.npy, .npz),
a folder of PNG, JPEG, BMP, TIFF and WebP images, or several such images. It is read in chunks and may have
any size; only a series for a sequence model is read, and scored, in one piece.

With --url, --model is the name of a model of that service: NAME, NAME@LABEL or NAME/VERSION; without it, the
default model. Without --url, --model is a path: a version folder, STORE/NAME, STORE/NAME@LABEL or
STORE/NAME/VERSION, and no service is asked. One version answers for the whole file.

The key for the service is read from --key-file or the variable RESIDUALCTL_API_KEY, never from the command
line, which other users of the machine can see. (The service refuses unknown variables that start RESIDUAL_.)

Answers are written to --out (.csv, .parquet, .ndjson or .npy), which appears when it is complete, or to
stdout as CSV; numbers have all their digits. Each line starts with the row of the sample, counted from 0, or
the file of the image, and the columns of --keep.
Exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.results import Scores
from residual_client import writing
from residual_client.calls import ModelInfo, Target
from residual_client.chunks import Chunk, Input, open_input
from residual_client.client import RETRIES, TIMEOUT_SECONDS, Client
from residual_client.errors import BadRequest, ClientError, RequestError, Unauthorized

KEY_VARIABLE = "RESIDUALCTL_API_KEY"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 bad usage, 130 interrupted."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.url is None and arguments.model is None:
        parser.error("give --url URL, or --model with the path of a model folder")
    try:
        with _terminable():
            _run(arguments)
    except BrokenPipeError:  # the reader of stdout has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ClientError, OSError) as error:
        hint = f"; give it by --key-file or {KEY_VARIABLE}" if isinstance(error, Unauthorized) else ""
        print(f"error: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM clean up as Ctrl-C does."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="residual",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb, words in _VERBS.items():
        command = commands.add_parser(verb, help=words, description=words, allow_abbrev=False)
        command.set_defaults(verb=verb)
        _add_flags(command)
        if verb == "score":
            command.add_argument(
                "--alpha", type=float, metavar="A", help="false-alarm rate to use instead of the model's own"
            )
            command.add_argument(
                "--explain", type=int, metavar="K", help="name the K features that contribute most"
            )
            command.add_argument("--anomalies-only", action="store_true", help="leave normal samples out")
        if verb == "encode":
            command.add_argument("--dtype", choices=("float32", "float16", "int8"), default="float32")
    return parser


def _add_flags(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("files", nargs="+", metavar="FILE", help="a file, a folder of images, or images")
    add("--url", help="the service, http://127.0.0.1:8000; without it --model is a path")
    add("--model", help="a model of the service, or without --url the path of a model")
    add("--key-file", type=Path, metavar="FILE", help="file with the key for the service")
    add("--out", metavar="FILE", help=f"{', '.join(writing.FORMS)}; default: CSV to stdout")
    forms = sorted(set(writing.FORMS.values()))
    add("--format", choices=forms, help="form of the output (default: by the suffix of --out)")
    columns = "columns that are not features, to copy to the output"
    add("--keep", type=lambda text: text.split(","), default=[], metavar="A,B", help=columns)
    add("--array", metavar="NAME", help="array in an .npz (default: X, or the only one)")
    seconds = "for one request (default: 60)"
    add("--timeout", type=float, default=TIMEOUT_SECONDS, metavar="SECONDS", help=seconds)
    retries = "repetitions of a request after 429, 502, 503 or a lost connection (default: 4)"
    add("--retries", type=int, default=RETRIES, metavar="N", help=retries)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = "for scoring without --url (default: the CPUs of this process)"
    add("--threads", type=int, default=cpus, metavar="N", help=threads)


def _run(arguments: argparse.Namespace) -> None:
    form = writing.form_of(arguments.out, arguments.format)
    with _connect(arguments) as scorer:
        manifest = scorer.manifest()
        model = ModelInfo.of_manifest(Target(), manifest)
        data = open_input(arguments.files, model, keep=arguments.keep, array=arguments.array)
        tally = _Tally(manifest)
        quiet = arguments.out is None and sys.stdout.isatty()  # the answers themselves are the progress
        with writing.open_output(arguments.out, form) as writer, _progress(data, quiet=quiet) as advance:
            for chunk in data.chunks:
                answer = _answer(arguments, scorer, model, data, chunk)
                tally.add(answer, chunk)
                writer.write(*_selected(arguments, answer, _where(chunk, answer)))
                advance(chunk.done)
    tally.print(arguments)


@contextlib.contextmanager
def _connect(arguments: argparse.Namespace) -> Iterator[Any]:
    """Connect to the version of the service that answers now, or open the model folder."""
    if arguments.url is None:
        if arguments.key_file is not None:
            raise RequestError("--key-file is for a service: give --url")
        from residual_client.local import LocalModel  # loads ONNX Runtime

        yield LocalModel(arguments.model, threads=arguments.threads)
        return
    path = arguments.key_file
    key = os.environ.get(KEY_VARIABLE, "") if path is None else path.read_text()
    with Client(
        arguments.url,
        api_key=key.strip() or None,
        timeout=arguments.timeout,
        retries=arguments.retries,
        **_named(arguments.model),
    ) as client:
        yield client.pin()


def _named(model: str | None) -> dict[str, Any]:
    """Parse NAME, NAME@LABEL or NAME/VERSION."""
    if model is None:
        return {}
    name, at, label = model.partition("@")
    name, slash, version = name.partition("/")
    if (slash and not version.isdecimal()) or (at and not label) or not name:
        raise RequestError(
            f"with --url the model must be NAME, NAME@LABEL or NAME/VERSION of the service, got {model!r}"
        )
    return {"model": name, "version": int(version) if slash else None, "label": label if at else None}


_VERBS: Mapping[str, str] = {
    "score": "score, ratio, p-value and decision for each sample",
    "classify": "the class of each sample, by a model with a classifier",
    "denoise": "what the model expected to see instead",
    "encode": "the latent vector of each sample",
}


def _ask(arguments: argparse.Namespace, scorer: Any, model: ModelInfo, samples: Any) -> Any:
    if arguments.verb == "score":
        return scorer.score(samples, alpha=arguments.alpha, explain=arguments.explain)
    if arguments.verb == "classify":
        return scorer.classify(samples)
    if arguments.verb == "denoise":
        return writing.Rows("reconstruction", scorer.denoise(samples), model.feature_names)
    return writing.Rows("latent", scorer.encode(samples, dtype=arguments.dtype), None)


def _answer(arguments: argparse.Namespace, scorer: Any, model: ModelInfo, data: Input, chunk: Chunk) -> Any:
    """Get the answer to one chunk; add the place in the file to a problem."""
    try:
        return _ask(arguments, scorer, model, chunk.samples)
    except BadRequest as problem:
        if problem.status == 409:  # the model cannot do this with any file
            raise
        rows = [place["row"] for place in problem.errors if isinstance(place.get("row"), int)]
        place = f", {chunk.places[rows[0]]}" if rows and chunk.places is not None else ""
        sentence = _with_column(str(problem.moved(chunk.first_row)), model)
        raise ClientError(f"{data.name}{place}: {sentence}") from problem


def _with_column(sentence: str, model: ModelInfo) -> str:
    """Replace the JSON pointer to a cell by the name of its column."""
    names = model.feature_names
    if names is None or len(model.sample_shape) != 1:
        return sentence
    cell = _CELL.match(sentence)
    if cell is None or int(cell[1]) >= len(names):
        return sentence
    return f"{names[int(cell[1])]!r} {sentence[cell.end() :]}"


_CELL = re.compile(r"^/instances/\d+/(\d+): ")


def _where(chunk: Chunk, answer: Any) -> dict[str, Sequence[Any]]:
    """Identify the samples: by row of the file, by image, or by number for the windows of a series."""
    n_answers = next(len(getattr(answer, name)) for name in _OF_SAMPLES if hasattr(answer, name))
    if n_answers != len(chunk):
        return {"window": range(n_answers)}
    if chunk.is_named:
        return dict(chunk.kept)
    rows = {"row": range(chunk.first_row, chunk.first_row + len(chunk))}
    return writing.with_columns(rows, chunk.kept)


_OF_SAMPLES = ("score", "label", "values")  # the kinds of answers have one of these, as long as the samples


def _selected(
    arguments: argparse.Namespace, answer: Any, where: dict[str, Sequence[Any]]
) -> tuple[Any, dict[str, Sequence[Any]]]:
    """Choose the samples to write."""
    if not getattr(arguments, "anomalies_only", False):
        return answer, where
    chosen = np.flatnonzero(answer.is_anomaly)
    return answer.take(chosen), {name: [column[int(row)] for row in chosen] for name, column in where.items()}


@contextlib.contextmanager
def _progress(data: Input, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; the function it yields takes how much was done so far."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    # A terminal that does not tell its size has 0 columns, which tqdm takes for no room.
    room = {} if os.get_terminal_size(sys.stderr.fileno()).columns else {"ncols": 80, "nrows": 24}
    form: dict[str, Any] = {"unit": f" {data.unit}"}
    if data.unit == "B":
        form = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    with tqdm(total=data.total, desc=data.name, leave=False, **form, **room) as bar:
        yield lambda done: bar.update(done - bar.n)


class _Tally:
    """Counts the answers for the last line."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._who = f"model {manifest['name']} version {manifest['version']}"
        self._n_rows = self._n_anomalies = self._n_unscored = 0
        self._rule: Scores | None = None

    def add(self, answer: Any, chunk: Chunk) -> None:
        """Count one chunk."""
        self._n_rows += len(chunk)
        if isinstance(answer, Scores):
            self._n_anomalies += int((answer.is_anomaly & answer.scored).sum())
            self._n_unscored += int((~answer.scored).sum())
            self._rule = answer

    def print(self, arguments: argparse.Namespace) -> None:
        """Print to stderr, so that stdout holds only answers."""
        words = f"{self._n_rows} samples"
        if self._rule is not None:
            share, expected = self._n_anomalies / self._n_rows, self._rule.expected_rate
            words += f", {self._n_anomalies} anomalies ({share:.2%}; {expected:.2%} of normal ones "
            words += f"would be expected), threshold {self._rule.threshold:.6g}"
        if self._n_unscored:
            words += f", {self._n_unscored} without a score (a value is missing or the answer is not finite)"
        wrote = f", written to {arguments.out}" if arguments.out else ""
        print(f"{words}, {self._who}{wrote}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
