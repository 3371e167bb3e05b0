"""Run the graphs of a model folder.

  checks        samples, latents and outputs: shape, dtype, range; to what the graphs take
  session       one ONNX Runtime session, run in chunks; the only module that imports onnxruntime
  graphs        the tensors that each graph must have, and how far two answers may differ
  batches       samples and series of several requests as one batch
  explanations  which features contribute to a score
  engine        `Engine`: the steps from samples to answers, for callers that batch requests

`detector.inference` and `detector.triton` import this package. It knows no store and opens no files.
"""
