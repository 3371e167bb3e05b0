"""Run graphs: sessions, tensors, checks of what goes in, batches of several requests."""
