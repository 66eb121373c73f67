"""Limits the memory of large responses that clients have not read yet."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.oci.errors import TooManyRequests

SMALL_BODY = 64 * 1024
"""Bytes up to which a response is sent in one piece; the limit on requests bounds the memory of these."""
BODIES_LIMIT = 32 * 1024 * 1024
"""Bytes of larger responses in memory that clients have not read yet."""
RETRY_AFTER = 2.0
"""Retry-After in seconds when a limit is reached."""


class Overloaded(TooManyRequests):
    """A limit of scope-proxy is reached, not one of the upstream."""


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """The bytes of one response, in memory until its client has read them."""

    content: bytes
    client: str
    cut: Callable[[], None]


class HeldBodies:
    """Bounds the memory of large responses; at the limit, the client with the most bytes loses its oldest response.

    Bytes that several responses share count once, in total and per client.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._shared: dict[int, int] = {}
        """Responses by the `id` of their bytes, which is unique while the bytes are referenced."""
        self._held: dict[str, OrderedDict[Hold, None]] = {}

    @contextmanager
    def holding(self, content: bytes, client: str, cut: Callable[[], None]) -> Iterator[None]:
        """Count the bytes for a client in the block; at the limit, cuts a response. Raises TooManyRequests."""
        hold = Hold(content, client, cut)
        while id(content) not in self._shared and self._total + len(content) > self._limit:
            most = max(self._held, key=self._bytes_of, default="")
            if not most or self._bytes_of(most) <= self._bytes_of(client) + len(content):
                reason = "too many clients do not read their responses"
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
        """Stop counting a response; no effect if released before."""
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
