"""JSON bodies: the fast reader, the strict reader, and large bodies read slice by slice."""
