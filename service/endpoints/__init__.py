"""Endpoints: from the head and the body of a request to a call of a verb, and from its result to the answer.

| module | job |
| --- | --- |
| `base` | `Endpoint` and `Reader`, the choice of the model, checks of options |
| `readers` | cache readers by the parts of a head that they depend on |
| `verbs` | `/score`, `/denoise`, `/encode`, `/decode`, `/classify` |
| `lines` | bodies of lines for the same verbs |
| `platforms` | `infer` of V2, `predict` and `explain` of V1, with `open_inference` and `tensors` |
| `model_metadata` | the tensors of a model in the forms of V2, Triton and TensorFlow Serving |

An endpoint opens a reader for a head; the reader turns each body with this head into a `scoring.calls.Call`.
This folder may import `bodies`, `answers`, `models`, `scoring` and `http`. It may not know Flask, ASGI or a
server: `serving`, `wsgi` and `asgi` import it.
"""
