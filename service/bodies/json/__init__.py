"""Read JSON bodies: docs/decisions/0018 gives the reasons for three readers."""
