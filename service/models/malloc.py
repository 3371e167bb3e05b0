"""Return freed memory to the system, if the C library can."""

import ctypes

# Only glibc has it.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Return free memory between used blocks, which `free` keeps; takes milliseconds."""
    if _trim is not None:
        _trim(0)
