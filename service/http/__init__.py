"""Requests, answers and problems as values, for every server.

| module | job |
| --- | --- |
| `messages` | `Head` of a request, `Answer` |
| `request_record` | the record of a request for headers, metrics and the access log |
| `problems` | exceptions to problem documents; the only status codes of errors |
| `forwarding` | the address of a client behind trusted proxies |
| `access` | API keys and the Host header |
| `cors` | requests of pages of other origins |

Every other folder of the service may import this one, which imports `detector` only.
"""
