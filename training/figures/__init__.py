"""Figures of a fitted model, from scores and labels; knows no Keras.

- `metrics`: rates and rankings with confidence intervals
- `baselines`: simple detectors on the same splits
- `findings`: what the figures say, in sentences
- `pixels`: ROC AUC of pixels, by masks
- `pseudo`: pseudo-anomalies, by which a sweep ranks its trials
- `stepwise`: the steps of a series, scored as served
"""
