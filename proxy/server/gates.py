"""How much clients may have of this process at one time: connections, requests, memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.config.model import Limits
from proxy.oci.errors import TooManyRequests

SMALL_BODY = 64 * 1024
"""Bytes of an answer that are sent in one piece; such answers are bounded by the number of requests."""
BODIES_LIMIT = 256 * 1024 * 1024
"""Bytes of larger whole answers that are held for clients which have not taken them yet."""
RETRY_AFTER = 2.0
"""Seconds after which a client that found no place may try again."""


class Overloaded(TooManyRequests):
    """The limit is our own."""


class Gate:
    """Lets so many in at one time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0

    def enter(self) -> bool:
        """Take a place, if there is one; who got one has to leave."""
        if self._inside >= self._limit:
            return False
        self._inside += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self._inside -= 1

    def __enter__(self) -> None:
        """Take a place for the length of the block; raises TooManyRequests."""
        if not self.enter():
            raise Overloaded("scope-proxy answers as many requests as it may at one time", retry_after=RETRY_AFTER)

    def __exit__(self, *_: object) -> None:
        self.leave()


class HeldBodies:
    """Counts the bytes of larger whole answers until they are sent, those that clients share once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clients: dict[int, int] = {}
        self._bytes = 0

    @contextmanager
    def holding(self, content: bytes) -> Iterator[None]:
        """Hold the bytes for one client in the block; raises TooManyRequests."""
        key, size = id(content), len(content)  # an identity is nobody else's as long as the bytes are held
        if key not in self._clients:
            if self._bytes + size > self._limit:
                reason = "too many clients do not read what they asked for"
                raise Overloaded(reason, retry_after=RETRY_AFTER)
            self._bytes += size
        self._clients[key] = self._clients.get(key, 0) + 1
        try:
            yield
        finally:
            self._clients[key] -= 1
            if not self._clients[key]:
                del self._clients[key]
                self._bytes -= size


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates of one process, for all its listeners."""

    connections: Gate
    requests: Gate
    bodies: HeldBodies

    @classmethod
    def of(cls, limits: Limits) -> "Gates":
        """The gates that the configuration wants."""
        return cls(Gate(limits.connections), Gate(limits.requests), HeldBodies(BODIES_LIMIT))
