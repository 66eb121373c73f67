"""A reserve of file descriptors for the operator's ports: probes are answered when nothing else can be opened."""

import os

SIZE = 16
"""Descriptors in reserve."""


class DescriptorReserve:
    """Open descriptors that are closed one by one to make room; listeners for clients wait until it is full again."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._kept: list[int] = []
        self.refill()

    def lend(self) -> bool:
        """Close one, so that something else can be opened; False if none is left."""
        if not self._kept:
            return False
        os.close(self._kept.pop())
        return True

    def refill(self) -> bool:
        """Open those that are missing, as far as the system allows; whether the reserve is full."""
        while len(self._kept) < self._size:
            try:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Close all."""
        self._size = 0
        while self.lend():
            pass
