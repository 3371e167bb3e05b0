"""The route `/metrics`."""

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.watching.metrics import Metrics


def blueprint(metrics: Metrics) -> Blueprint:
    """Return the route that Prometheus scrapes."""
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    def exposition() -> Response:
        return Response(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)

    return routes
