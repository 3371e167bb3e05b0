"""Runs decoded requests.

| module | job |
| --- | --- |
| `verbs` | score, infer, denoise, encode, decode, classify: list of requests to list of results or errors |
| `calls` | `Call`: a request with its verb and the key of its batch |
| `runner` | run calls as batches, within deadlines; learn how long they take |
| `admission` | limit the rows, bytes and waiting time of the work in progress |

Requests are grouped once, by `Runner.run` and the key of their call. This folder may import `http`,
`settings` and `watching`; it may not know bodies, media types or servers.
"""
