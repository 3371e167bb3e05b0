"""`LocalModel`: a model folder in place of a service, with the same calls, answers and errors."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from detector import Detector, DetectorError, InputError
from detector.results import Classes, Scores
from detector.store import find_folder
from detector.tables import as_rows, text_columns, to_cells
from residual_client.errors import BadRequest, ClientError, RequestError

Result = TypeVar("Result")


class LocalModel:
    """A version folder that answers like a pinned `Client`.

    Parameters
    ----------
    model : str
        A version folder, `STORE/NAME`, `STORE/NAME@LABEL` or `STORE/NAME/VERSION`.
    threads : int
        How many chunks of a batch run at a time.

    Raises
    ------
    ClientError
        If there is no such folder, or it is refused.
    """

    def __init__(self, model: str, *, threads: int = 1) -> None:
        try:
            self._detector = Detector.load(find_folder(model), threads=threads)
        except (DetectorError, OSError) as error:
            raise ClientError(str(error)) from error

    def manifest(self) -> Mapping[str, Any]:
        """As `Client.manifest`."""
        return dataclasses.asdict(self._detector.manifest)

    def score(self, samples: Any, *, alpha: float | None = None, explain: int | None = None) -> Scores:
        """As `Client.score`."""
        return self._ask(self._detector.score, samples, alpha=alpha, explain=explain, partial=True)

    def classify(self, samples: Any) -> Classes:
        """As `Client.classify`."""
        return self._ask(self._detector.classify, samples)

    def denoise(self, samples: Any) -> np.ndarray | list[list[Any]]:
        """As `Client.denoise`: rows that hold texts are lists."""
        manifest = self._detector.manifest
        array = self._ask(lambda rows: as_rows(rows, manifest), samples)
        clean = self._ask(self._detector.reconstruct, array)
        return to_cells(clean, manifest) if text_columns(manifest.categories) else clean

    def encode(self, samples: Any, *, dtype: str = "float32") -> np.ndarray:
        """As `Client.encode`."""
        return self._ask(self._detector.encode, samples, dtype=dtype)

    def _ask(self, verb: Callable[..., Result], samples: Any, **options: Any) -> Result:
        try:
            if isinstance(samples, list) and samples and isinstance(samples[0], Path):
                samples = self._read(samples)
            return verb(samples, **options)
        except InputError as error:
            row = {} if error.index is None else {"row": error.index[0]}
            problem = {"type": "invalid-input", "detail": str(error)}
            raise BadRequest(422, {**problem, "errors": [{"detail": str(error), **row}]}) from error
        except DetectorError as error:
            raise ClientError(str(error)) from error

    def _read(self, images: Sequence[Path]) -> np.ndarray:
        try:
            return self._detector.read_images(images)
        except ImportError as error:
            raise RequestError("images need Pillow, which is not installed: pip install pillow") from error
