"""Metrics and logs.

| module | job |
| --- | --- |
| `pending` | hold answered requests and runs until they are counted and logged, many at a time |
| `metrics` | Prometheus metrics, correct for one process and for several |
| `ended_workers` | merge the metrics of workers that have ended |
| `logs` | JSON lines on stdout |
| `stdout` | write lines without waiting for their reader |

This folder may import `http` and `models`. `pending` and `metrics` need prometheus_client; `logs` does not,
since gunicorn's configuration imports it before the metrics may be loaded.
"""
