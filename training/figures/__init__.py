"""Figures about a fitted model: metrics, baselines, pseudo-anomalies."""
