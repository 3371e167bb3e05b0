"""Bodies of lines, NDJSON: answered line by line while they come, under ASGI and WSGI."""
