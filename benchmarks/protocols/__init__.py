"""The protocols of `quality.py` by name: each says which data to read, how to split and what to measure.

A new protocol is a module with `PROTOCOLS` and a line in the dictionary below.

=================  ==============================================================================
`base`             `Protocol` and `DataSet`, readers of `.npz`
`baselines`        the other detectors, and `Timed`, the scores of any method
`tabular`          T1, T1b, T2: tables
`promise`          T3: is the promised false-alarm rate kept?
`parity`           X: exported graph against Keras network
`contamination`    C: anomalies among the training rows
`images`           I1, I5, I5b: images and surfaces
`denoising`        I4: `/denoise` against the best linear filter, by `benchmarks.restoration`
`steps`            scores for the steps of a series, for the next two
`telemetry`        S1, S2: telemetry by VUS-PR
`streams`          S3, S4: streams by NAB's scoring and by F1
=================  ==============================================================================

Order of imports: `base` and `baselines` first, then `tabular` and `steps`, then the protocols; `parity` also
imports `promise`. Only `benchmarks.quality` imports this package. Its modules import `benchmarks.measures`,
`benchmarks.in_process` (our detector) and `benchmarks.environments`, and know nothing of output files.
"""

from benchmarks.protocols import (
    contamination,
    denoising,
    images,
    parity,
    promise,
    streams,
    tabular,
    telemetry,
)
from benchmarks.protocols.base import Protocol

PROTOCOLS: dict[str, Protocol] = {
    **tabular.PROTOCOLS,
    **promise.PROTOCOLS,
    **parity.PROTOCOLS,
    **contamination.PROTOCOLS,
    **images.PROTOCOLS,
    **denoising.PROTOCOLS,
    **telemetry.PROTOCOLS,
    **streams.PROTOCOLS,
}
