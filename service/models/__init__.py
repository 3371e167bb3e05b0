"""Loaded models, which follow the store.

- `registry`: polls the store, loads and verifies versions, swaps snapshots; readiness
- `policy`: which versions are loaded and which of them serve; pure functions
- `trial`: loads a new version in a child process first
- `malloc`: returns freed memory to the system after a reload

The package knows `detector` and `http.problems`, but no verb, no endpoint and no server.
"""
