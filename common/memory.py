"""Memory of programs that stay."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return to the system what is free: glibc keeps heap that starting, or a thousand connections, once needed.

    malloc_trim(3). Takes milliseconds, in which other threads wait for memory.
    """
    with suppress(OSError, AttributeError):  # another C library keeps what it likes
        ctypes.CDLL("libc.so.6").malloc_trim(0)
