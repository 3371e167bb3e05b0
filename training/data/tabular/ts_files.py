"""Read the `.ts` files of the UCR and UEA archives: a series on each line, its label at the end.

References
----------
https://www.sktime.net/en/stable/examples/AA_datatypes_and_datasets.html
"""

from pathlib import Path

import numpy as np

from training.data.dataset import RawData
from training.errors import DataError


def read_ts(path: Path) -> RawData:
    """Read series of one length as windows: of shape (n, n_steps), or (n, n_steps, n_channels).

    Raise `DataError` if the file is not of this form, or the series have time stamps or several lengths.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} must be UTF-8 text: {error.reason}") from error
    is_head = [line.startswith(("@", "#")) or not line for line in lines]
    head = [line.lower().split() for line in lines if line.startswith("@")]
    if ["@data"] not in head:
        raise DataError(f"{path.name} has no line @data")
    if ["@timestamps", "true"] in head:
        raise DataError(f"{path.name}: series with time stamps are not read: save them as a table")
    is_labelled = any(words[:2] == ["@classlabel", "true"] for words in head)
    windows, labels = [], []
    for number, line in enumerate(lines, 1):
        if is_head[number - 1]:
            continue
        *channels, label = line.split(":") if is_labelled else [*line.split(":"), ""]
        try:
            values = np.array([list(map(float, channel.split(","))) for channel in channels])
        except ValueError as error:
            raise DataError(
                f"{path.name}, line {number}: must hold numbers of one length: {error}"
            ) from error
        if windows and values.shape != windows[0].shape:
            raise DataError(
                f"{path.name}, line {number}: every series must have {windows[0].shape[-1]} steps and "
                f"{len(windows[0])} channels, got {values.shape[-1]} and {len(values)}"
            )
        windows.append(values)
        labels.append(label.strip())
    if not windows:
        raise DataError(f"{path.name} has no series")
    samples = np.moveaxis(np.array(windows), 1, 2)
    samples = samples[..., 0] if samples.shape[2] == 1 else samples
    return RawData(samples, np.array(labels) if is_labelled else None)
