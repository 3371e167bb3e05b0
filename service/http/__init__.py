"""Requests, answers and problems as values; no server in here."""
