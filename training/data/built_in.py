"""Data sets that have a name instead of a path."""

import contextlib
import functools
import sys
from collections.abc import Callable

import numpy as np

from training.data.dataset import UNLABELLED, RawData
from training.data.tables import label_texts
from training.errors import DataError
from training.quiet import import_tensorflow


def train_and_test(
    x_train: np.ndarray,
    y_train: np.ndarray | None,
    x_test: np.ndarray,
    y_test: np.ndarray | None,
    notes: tuple[str, ...] = (),
) -> RawData:
    """Join a training part and a test part; the test part is held out.

    If only the test samples have labels, the training samples are normal.
    """
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"training and test samples must have one shape, got {x_train.shape[1:]} and {x_test.shape[1:]}"
        )
    if y_train is not None and y_test is None:
        raise DataError("the training samples have labels, so the test samples must have labels too")
    labels = None
    if y_test is not None:
        if y_train is None:
            y_train, y_test = np.full(len(x_train), UNLABELLED), label_texts(y_test)
            notes = (*notes, "training samples have no labels and count as normal")
        labels = np.concatenate([y_train, y_test])
    return RawData(np.concatenate([x_train, x_test]), labels, n_held_out=len(x_test), notes=notes)


def _digits() -> RawData:
    from sklearn.datasets import load_digits  # an import takes a second, so only the requested set is loaded

    digits = load_digits()
    return RawData(
        digits.images,
        digits.target,
        value_range=(0.0, 16.0),
        provenance=(
            "The data are the 8x8 digits that scikit-learn ships: the test part of Optical Recognition of "
            "Handwritten Digits by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, "
            "https://doi.org/10.24432/C50P49, licence CC BY 4.0."
        ),
    )


def _breast_cancer() -> RawData:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = tuple(str(name).replace(" ", "_") for name in data.feature_names)
    return RawData(
        data.data,
        data.target_names[data.target],
        feature_names=names,
        normal_label="benign",
        provenance=(
            "The data are Breast Cancer Wisconsin (Diagnostic), as scikit-learn ships them, by W. Wolberg, "
            "O. Mangasarian, N. Street and W. Street, UCI Machine Learning Repository, 1993, "
            "https://doi.org/10.24432/C5DW2B, licence CC BY 4.0."
        ),
    )


def _from_keras(name: str) -> RawData:
    import_tensorflow()
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras announces its download there
            (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # a plain Exception with the address that could not be reached
        raise DataError(
            f"{name} could not be downloaded ({error}); give a local file instead: --data PATH/{name}.npz"
        ) from error
    return train_and_test(x_train, y_train, x_test, y_test)


BUILT_IN: dict[str, Callable[[], RawData]] = {
    "digits": _digits,
    "breast-cancer": _breast_cancer,
    "mnist": functools.partial(_from_keras, "mnist"),
    "fashion-mnist": functools.partial(_from_keras, "fashion_mnist"),
    "cifar10": functools.partial(_from_keras, "cifar10"),
}
