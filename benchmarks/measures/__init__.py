"""Published measures of detection quality, and statistics over many sets.

Functions of arrays and rows; nothing here knows a detector, a file of data or a command line.
`benchmarks.protocols`, `benchmarks.quality` and `benchmarks.charts` import from here; `comparison` imports
`benchmarks.rows`, the others import nothing of the repository.

========================  =======================================================================
`comparison`              means, medians, ranks and Wilcoxon's test of methods over sets, as tables
`nab`                     scoring of the Numenta Anomaly Benchmark
`nab_published`           two detectors of its tables, which check `nab` and take part in S3
`vus`                     VUS-PR, and the window that it needs
========================  =======================================================================
"""
