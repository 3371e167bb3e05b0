"""Serves model folders over HTTP; the only package that knows Flask.

A folder imports only folders below it; `tests/test_boundaries.py` holds the order:

| folder or module | job |
| --- | --- |
| `asgi`, `app` | servers: the ASGI application for gunicorn; the documented name of the Flask application |
| `wsgi` | the Flask application: all routes, under any WSGI server |
| `serving` | the objects that one process serves with |
| `endpoints` | from head and body to a call of a verb, and from its result to the answer |
| `scoring` | run calls: verbs, batches, deadlines, admission |
| `answers`, `watching` | write results in all media types; metrics and logs |
| `bodies`, `models` | read request bodies; load and poll the store |
| `http`, `settings`, `version` | requests, answers and problems as values; the environment |

Words: a *head* is the method, target and headers of a request. A *reader* decodes the bodies of one head. A
*call* is a decoded request. A *verb* runs a list of requests to one model. A *round* is all small requests of
one turn of the event loop. A *ticket* is the share of a request in the work in progress. A *reply* is a
result before it is written, an *answer* after.
"""
