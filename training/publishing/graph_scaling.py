"""Scaling and unscaling as parts of a TensorFlow graph."""

import numpy as np
import tensorflow as tf

from training.data.columns import ColumnLayout
from training.data.scaling import SCALED_LIMIT, Scaling

FLOAT32_MAX = float(np.finfo(np.float32).max)
# If two categories are equally likely but for rounding, every machine answers the first.
TIE = 1e-4
NO_VALUE = -1e30


def scale(samples: tf.Tensor, scaling: Scaling) -> tf.Tensor:
    """`Scaling.apply`."""
    columns = samples if scaling.layout is None else _columns(samples, scaling.layout, scaling.fill)
    return tf.clip_by_value((columns - scaling.offset) / scaling.scale, -SCALED_LIMIT, SCALED_LIMIT)


def unscale(values: tf.Tensor, scaling: Scaling) -> tf.Tensor:
    """Scaled values in raw units; for a category its likeliest value."""
    raw = tf.clip_by_value(values * scaling.scale + scaling.offset, -FLOAT32_MAX, FLOAT32_MAX)
    return raw if scaling.layout is None else _rows(raw, scaling.layout)


def pool(errors: tf.Tensor, scaling: Scaling) -> tf.Tensor:
    """Add the errors of columns to errors of their features."""
    return errors if scaling.layout is None else tf.matmul(errors, scaling.layout.shares)


def _columns(rows: tf.Tensor, layout: ColumnLayout, fill: np.ndarray) -> tf.Tensor:
    """`ColumnLayout.columns`."""
    parts = []
    absent = tf.math.is_nan(rows)
    filled = tf.where(absent, fill, rows) if layout.may_miss else rows
    if layout.numbers.size:
        parts.append(tf.gather(filled, layout.numbers, axis=1))
    if layout.categorical.size:
        is_value = tf.equal(tf.gather(filled, layout.value_owners, axis=1), layout.all_values)
        is_value = tf.cast(is_value, tf.float32)
        parts.append(is_value)
        if layout.own:
            parts.append(1 - tf.matmul(is_value, layout.members))
    if layout.may_miss:
        parts.append(tf.cast(absent, tf.float32))
    return tf.concat(parts, axis=1)


def _rows(columns: tf.Tensor, layout: ColumnLayout) -> tf.Tensor:
    """One value for each feature: the number, or the likeliest category."""
    parts = [columns[:, : layout.numbers.size]] if layout.numbers.size else []
    if layout.categorical.size:
        places, values, handicaps = _value_table(layout)
        likelihood = tf.gather(columns, places, axis=1) + handicaps  # (n, n_categorical, most values)
        is_likeliest = tf.one_hot(tf.argmax(likelihood, axis=2), values.shape[1])
        parts.append(tf.reduce_sum(is_likeliest * values, axis=2))
    order = np.argsort(np.concatenate([layout.numbers, layout.categorical]))
    return tf.gather(tf.concat(parts, axis=1), order, axis=1)


def _value_table(layout: ColumnLayout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, values and handicaps of each category's values, filled up to as many as the largest has."""
    shape = (len(layout.values), max(values.size for values in layout.values))
    places, values = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    handicaps = np.full(shape, NO_VALUE, dtype=np.float32)
    first = layout.numbers.size
    for row, own in enumerate(layout.values):
        places[row, : own.size] = first + np.arange(own.size)
        values[row], values[row, : own.size] = own[0], own
        handicaps[row, : own.size] = -TIE * np.arange(own.size) / own.size
        first += own.size
    return places, values, handicaps
