"""The Flask application: the verbs for any WSGI server, and every other route for the ASGI front, too.

- `app`: builds the application from the blueprints below
- `routes`: records, problems, and a route for every endpoint
- `lines`: answers bodies of lines
- `models`: `/livez`, `/readyz` and `/models`
- `platforms`: routes of V2 and V1 other than scoring; `statistics`: Triton's statistics for them
- `metrics`: `/metrics`
- `openapi`: `/openapi.json`; `openapi_platforms`: schemas of V2 and V1 for it

Only `asgi.front` and `service.app` import from here; `app` imports all other modules. The package knows
everything in `service` except `asgi`.
"""
