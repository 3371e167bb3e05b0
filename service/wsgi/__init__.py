"""The Flask application: routes, probes, metrics, OpenAPI."""
