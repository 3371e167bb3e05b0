"""One ONNX Runtime session: opened from bytes, checked for its declared tensors, run in bounded chunks."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import numpy as np
import onnxruntime as ort

from detector.engine.checks import Checked
from detector.errors import ModelError, RunStopped

CHUNK_ROWS = 256
CHUNK_VALUES = 2**20  # 4 MiB in the largest float32 tensor: bounds the peak memory of large images


class Stop:
    """Ends the runs of one caller for good, from any thread and at any time."""

    def __init__(self) -> None:
        self.options = ort.RunOptions()

    def set(self) -> None:
        """End the current run, and let no other begin."""
        self.options.terminate = True

    def check(self) -> None:
        """Raise `RunStopped` once `set` was called."""
        if self.options.terminate:
            raise RunStopped("the run was stopped before it was done")


_STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextlib.contextmanager
def stopped_by(stop: Stop) -> Iterator[None]:
    """End runs that begin within this block, in this thread, with `RunStopped` once `stop` is set."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


def check_stop() -> None:
    """Raise `RunStopped` if the `Stop` of the enclosing `stopped_by` block is set; for long loops."""
    stop = _STOP.get()
    if stop:
        stop.check()


class Session:
    """A graph with one float32 input and named float32 outputs.

    It has one intra-op thread, so that the bits of a row depend neither on its neighbours nor on the number
    of cores. Throughput comes from several processes and from chunks mapped over threads.

    Parameters
    ----------
    graph : bytes
        Content of the ONNX file; a graph with external data does not load.
    file_name : str
        For errors.
    input_name, sample_shape
        The input has shape `(batch, *sample_shape)`.
    outputs : mapping of str to tuple of int
        Name and shape, without the batch, of every output.
    threads : int
        How many chunks run at a time, at least 1.

    Raises
    ------
    ModelError
        If the graph does not load or its tensors differ from those declared.
    """

    def __init__(
        self,
        graph: bytes,
        file_name: str,
        input_name: str,
        sample_shape: tuple[int, ...],
        outputs: Mapping[str, tuple[int, ...]],
        threads: int = 1,
    ) -> None:
        self._file_name = file_name
        self._input_name = input_name
        self._outputs = dict(outputs)
        n_values = max(math.prod(shape) for shape in (sample_shape, *outputs.values()))
        self._chunk_rows = max(1, min(CHUNK_ROWS, CHUNK_VALUES // n_values))
        self._pool = ThreadPoolExecutor(threads, "detector") if threads > 1 else None
        try:
            self._session = ort.InferenceSession(graph, _options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen unrelated classes, UnicodeDecodeError too
            raise ModelError(f"{file_name} is not a graph that ONNX Runtime loads: {error}") from error
        # onnxruntime keeps a copy of all weights to open the graph again on another device.
        self._session.disable_fallback()
        self._session._model_bytes = None
        _check_tensors(file_name, "input", self._session.get_inputs(), {input_name: sample_shape})
        _check_tensors(file_name, "output", self._session.get_outputs(), outputs)

    def run(self, samples: Checked, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Run every sample through the graph.

        Parameters
        ----------
        samples : ndarray of shape (n_samples, *sample_shape), float32, or SeriesWindows
        names : sequence of str
            Outputs to return.

        Returns
        -------
        dict of str to ndarray of shape (n_samples, *output_shape), float32

        Raises
        ------
        ModelError
            If the graph fails, or answers another shape than it declares.
        RunStopped
            If the `Stop` of the enclosing `stopped_by` block is set.
        """
        stop = _STOP.get()
        if len(samples) <= self._chunk_rows:
            return dict(zip(names, self._run_chunk(samples[:], names, stop), strict=True))
        results = {name: np.empty((len(samples), *self._outputs[name]), dtype=np.float32) for name in names}

        def run_chunk(start: int) -> None:
            chunk = slice(start, start + self._chunk_rows)
            for name, value in zip(names, self._run_chunk(samples[chunk], names, stop), strict=True):
                results[name][chunk] = value

        starts = range(0, len(samples), self._chunk_rows)
        for _ in (self._pool.map if self._pool else map)(run_chunk, starts):
            pass
        return results

    def _run_chunk(self, samples: np.ndarray, names: Sequence[str], stop: Stop | None) -> list[np.ndarray]:
        """Run one chunk, and check that each output has its declared shape."""
        if stop:
            stop.check()
        try:
            values: list[np.ndarray] = self._session.run(
                list(names), {self._input_name: samples}, stop and stop.options
            )
        except Exception as error:  # unrelated classes here too
            if stop:
                stop.check()
            raise ModelError(f"{self._file_name} cannot be run: {error}") from error
        for name, value in zip(names, values, strict=True):
            shape = (len(samples), *self._outputs[name])
            if value.shape != shape:  # NumPy would repeat a single value for every row
                raise ModelError(
                    f"{self._file_name}: output {name} must have shape {shape}, got {value.shape}"
                )
        return values


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # grows with every new batch size: microsoft/onnxruntime#11118
    options.log_severity_level = 3
    return options


def _check_tensors(
    file_name: str, role: str, tensors: Sequence[ort.NodeArg], declared: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse tensors other than those declared: float32, with a free first dimension."""
    found = {tensor.name: tensor for tensor in tensors}
    if found.keys() != declared.keys():
        raise ModelError(f"{file_name} must have the {role}s {sorted(declared)}, got {sorted(found)}")
    for name, shape in declared.items():
        tensor = found[name]
        batch, *rest = tensor.shape or [0]
        if tensor.type != "tensor(float)" or isinstance(batch, int) or tuple(rest) != shape:
            raise ModelError(
                f"{file_name}: {role} {name} must be float32 of shape {('batch', *shape)}, "
                f"got {tensor.type} of shape {tuple(tensor.shape)}"
            )
