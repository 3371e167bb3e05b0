"""The Flask application: the verbs for any WSGI server, and every other route for the ASGI front, too."""
