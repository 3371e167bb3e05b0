"""The fast front: an ASGI application, its connections, rounds and thread pool, run by gunicorn's worker."""
