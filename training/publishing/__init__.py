"""From a fitted network to a calibrated model folder.

- `graphs`: Keras -> ONNX, and their parity; `graph_scaling`: the scaling inside the graphs
- `manifests`: draft and seal the manifest; `calibrate`: the threshold, through the engine that serves
- `quantize`: wide dense layers in 8-bit integers
- `evaluation`: figures of the test split; `folder`: calibrate, evaluate, write every file

Scores come from the exported graphs, never from Keras.
"""
