"""The ASGI server side, which answers the verbs fast and passes everything else to Flask.

A request starts in `worker` or in a test, and takes one of these ways:

- known head, small body: `connection` -> `known_heads` -> `rounds`
- new head, small body: `connection` -> uvicorn's parser -> `front` -> `rounds`
- large or slow body: `front` -> `pool`
- body of lines: `front` -> `lines`
- everything else (GET, paths without an endpoint): `front` -> Flask in a few threads

| module | job | decision |
| --- | --- | --- |
| `worker` | the gunicorn worker: uvicorn's, with our protocol | 0017 |
| `connection` | one connection: HTTP/1.1 with limits | 0017 |
| `known_heads` | requests whose head has come before | 0028 |
| `front` | the ASGI application: checks, routes, chooses the way | 0019 |
| `body` | receive a body within limits of size and time | |
| `rounds` | small requests, batched per turn of the event loop | 0019 |
| `pool` | large and slow requests, in threads | 0019 |
| `lines` | bodies of lines, answered as they arrive | |

This folder is the top of the service: it may import every other folder, and only `wsgi` for the Flask
application. None but gunicorn and tests imports it. Under another WSGI server, `service.wsgi` gives the same
answers without this folder; `tests/service/test_differential.py` compares the two.
"""
