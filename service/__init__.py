"""Serves model folders over HTTP; the only package that knows Flask."""
