"""Endpoints: from the head and the body of a request to a call of a verb, and from its result to the answer.

| module | job |
| --- | --- |
| `base` | `Endpoint` and `Reader`, the choice of the model, checks of options |
| `readers` | cache readers by the parts of a head that they depend on |
| `verbs` | `/score`, `/denoise`, `/encode`, `/decode`, `/classify` |
| `lines` | bodies of lines for the same verbs |
| `platforms` | `infer` of the protocol V2 and `predict` of V1, with `open_inference` and `tensors` |
| `model_metadata` | metadata and configuration of a model in V2 |

An endpoint opens a reader for a head; the reader turns each body with this head into a `scoring.calls.Call`.
This folder may import `bodies`, `answers`, `models`, `scoring` and `http`. It may not know Flask, ASGI or a
server: `serving`, `wsgi` and `asgi` import it.
"""
