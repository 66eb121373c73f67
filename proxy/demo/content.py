"""Bytes that a server can send in part: held in memory, or made as they are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

PIECE = 256 * 1024
"""Bytes handed out at once: enough to be fast, little enough to stop between two of them."""


class BodyContent(Protocol):
    """A body of known size that can be read from any place."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces of at most `PIECE`."""
        ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body held in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.data)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces of at most `PIECE`."""
        for at in range(start, stop, PIECE):
            yield self.data[at : min(at + PIECE, stop)]


NOTHING = Bytes(b"")
