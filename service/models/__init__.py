"""Loaded models, which follow the store.

- `registry`: polls the store, loads and verifies versions, swaps snapshots; readiness
- `malloc`: returns freed memory to the system after a reload

The package knows `detector` and `http.problems`, but no verb, no endpoint and no server.
"""
