"""How much memory whole answers may take until clients have read them."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.oci.errors import TooManyRequests

SMALL_BODY = 64 * 1024
"""Bytes of an answer that are sent in one piece; such answers are bounded by the number of requests."""
BODIES_LIMIT = 32 * 1024 * 1024
"""Bytes of larger whole answers that are held for clients which have not taken them yet."""
RETRY_AFTER = 2.0
"""Seconds after which a client that found no place may try again."""


class Overloaded(TooManyRequests):
    """The limit is our own."""


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """The bytes of one answer that are held until its client has taken them."""

    content: bytes
    client: str
    cut: Callable[[], None]


class HeldBodies:
    """Bounds the memory of larger whole answers until they are sent; beyond it the client that has the most loses one.

    Bytes that several answers share count once; so do those that several answers to one client share, for that client.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._shared: dict[int, int] = {}
        """How many answers hold the same bytes; an identity is nobody else's as long as the bytes are held."""
        self._held: dict[str, OrderedDict[Hold, None]] = {}

    @contextmanager
    def holding(self, content: bytes, client: str, cut: Callable[[], None]) -> Iterator[None]:
        """Hold the bytes for a client in the block, or `cut` it; raises TooManyRequests."""
        hold = Hold(content, client, cut)
        while id(content) not in self._shared and self._total + len(content) > self._limit:
            most = max(self._held, key=self._bytes_of, default="")
            if not most or self._bytes_of(most) <= self._bytes_of(client) + len(content):
                reason = "too many clients do not read what they asked for"
                raise Overloaded(reason, retry_after=RETRY_AFTER)
            oldest = next(iter(self._held[most]))
            self._release(oldest)
            oldest.cut()
        self._hold(hold)
        try:
            yield
        finally:
            self._release(hold)

    def _bytes_of(self, client: str) -> int:
        contents = {id(hold.content): len(hold.content) for hold in self._held.get(client, ())}
        return sum(contents.values())

    def _hold(self, hold: Hold) -> None:
        key = id(hold.content)
        if key not in self._shared:
            self._total += len(hold.content)
        self._shared[key] = self._shared.get(key, 0) + 1
        self._held.setdefault(hold.client, OrderedDict())[hold] = None

    def _release(self, hold: Hold) -> None:
        """Count no longer what is held; it may have been released before."""
        held, key = self._held.get(hold.client), id(hold.content)
        if held is None or hold not in held:
            return
        del held[hold]
        if not held:
            del self._held[hold.client]
        self._shared[key] -= 1
        if not self._shared[key]:
            del self._shared[key]
            self._total -= len(hold.content)
