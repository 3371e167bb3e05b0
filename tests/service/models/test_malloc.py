"""Memory that was freed goes back to the system."""

import ctypes
from pathlib import Path

import pytest

from service.models.malloc import give_back

STATUS = Path("/proc/self/status")


def _resident_bytes():
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(
    not (STATUS.exists() and hasattr(ctypes.CDLL(None), "malloc_trim")), reason="needs glibc on Linux"
)
def test_freed_memory_is_given_back():
    """Free memory below a used block is returned, too."""
    parts = [b"x" * 2**16 for _ in range(1000)]
    full = _resident_bytes()
    del parts[:-1]

    give_back()

    assert full - _resident_bytes() > 40 * 2**20
