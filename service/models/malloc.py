"""Gives memory that was freed back to the system, where the C library can."""

import ctypes

# glibc's; other C libraries have none.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Give back what is free between what is used, which `free` alone does not; takes milliseconds."""
    if _trim is not None:
        _trim(0)
