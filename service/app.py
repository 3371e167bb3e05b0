"""The Flask application under its documented name: `gunicorn "service.app:from_environ()"`."""

from service.wsgi.app import build_app, create_app, from_environ

__all__ = ["build_app", "create_app", "from_environ"]
