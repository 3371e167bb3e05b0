"""Run decoded requests: verbs, batches, deadlines and admission; no HTTP in here."""
