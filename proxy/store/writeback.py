"""Having the kernel write a growing file to disk while it grows: its tail then waits less for the final fsync."""

import ctypes
from collections.abc import Callable
from functools import cache

STEP = 32 * 1024 * 1024
"""Bytes between two requests; smaller files are written out at their end."""
_WRITE = 2
"""SYNC_FILE_RANGE_WRITE: begin, and wait for nothing (Linux)."""

_SyncFileRange = Callable[[int, ctypes.c_longlong, ctypes.c_longlong, int], int]


class Writeback:
    """How far a file has been handed to the disk."""

    def __init__(self, start: int) -> None:
        self._begun = start

    def follow(self, descriptor: int, size: int) -> None:
        """Have what is whole steps begin its way to the disk. A hint: where it is not taken, the fsync does all."""
        end = size - size % STEP
        if end > self._begun:
            begin = _system_call()
            if begin is not None:
                begin(descriptor, ctypes.c_longlong(self._begun), ctypes.c_longlong(end - self._begun), _WRITE)
            self._begun = end


@cache
def _system_call() -> _SyncFileRange | None:
    """The C library's function; None where there is none (it is Linux's own)."""
    try:
        function: _SyncFileRange = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    return function
