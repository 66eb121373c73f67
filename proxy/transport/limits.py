"""How many requests a host gets at once, small ones first, and whose turn it is: clients wait in fair queues."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Final, Generic, Self, TypeVar

from prometheus_client import Gauge

from proxy.observe.metrics import UPSTREAM_IN_FLIGHT, UPSTREAM_QUEUE, Bound

CLIENT: Final[ContextVar[str]] = ContextVar("client", default="")
"""The client whose request is being answered, see `client_of`; empty for what the proxy does of its own accord."""
PREFIX = 64
"""Bits of an IPv6 address that identify a client: whoever has one such address has all with the same prefix."""

Item = TypeVar("Item")


def client_of(host: str) -> str:
    """The client that an address belongs to: the address of the connection counts, never a header."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> (128 - PREFIX) << (128 - PREFIX), PREFIX)))


class FairQueue(Generic[Item]):
    """A bounded queue of items that wait for clients: the client that holds the fewest places is next.

    Clients that hold equally many take turns; the items of one client keep their order. When the queue is full, a new
    item replaces the newest one of the client that has the most items in it, or is refused if that is its own client.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: dict[str, dict[Item, None]] = {}
        self._clients: dict[Item, list[str]] = {}
        self.size = 0
        """How many items are in it."""

    def __len__(self) -> int:
        return self.size

    def push(self, item: Item, clients: Iterable[str]) -> Item | None:
        """Add an item that waits for one client or several; returns the item that is refused, which may be itself."""
        waiting_for, refused = list(clients), None
        if self.size >= self._limit:
            refused = self._surplus(waiting_for)
            if refused is None:
                return item
            self.remove(refused)
        for client in waiting_for:
            self.join(item, client)
        return refused

    def join(self, item: Item, client: str) -> None:
        """Have an item wait for one more client, behind the items of that client."""
        line = self._lines.setdefault(client, {})
        if item not in line:
            line[item] = None
            self._clients.setdefault(item, []).append(client)
            self.size = len(self._clients)

    def next_client(self, held: Mapping[str, int]) -> str | None:
        """The client that is next, given how many places each one holds; None when the queue is empty."""
        return min(self._lines, key=lambda client: held.get(client, 0), default=None)

    def pop(self, held: Mapping[str, int]) -> tuple[Item, str] | None:
        """Take the next item out, with the client whose turn it is; None when the queue is empty."""
        client = self.next_client(held)
        if client is None:
            return None
        line = self._lines.pop(client)
        self._lines[client] = line  # now behind the other clients
        item = next(iter(line))
        self.remove(item)
        return item, client

    def remove(self, item: Item) -> None:
        """Take an item out, if it is in the queue."""
        for client in self._clients.pop(item, ()):
            line = self._lines[client]
            del line[item]
            if not line:
                del self._lines[client]
        self.size = len(self._clients)

    def _surplus(self, clients: list[str]) -> Item | None:
        """The newest item of the client that has the most, if it has more than one of `clients` would have then."""
        most = max(self._lines.values(), key=len, default={})
        if len(most) <= min((len(self._lines.get(client, ())) for client in clients), default=0) + 1:
            return None
        return next((item for item in reversed(most) if len(self._clients[item]) == 1), None)


class Requesters:
    """The clients that wait for a shared piece of work: its requests wait for the turn of any of them."""

    def __init__(self, *clients: str) -> None:
        self._clients = dict.fromkeys(clients)
        self._watchers: dict[Callable[[str], None], None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._clients))

    @classmethod
    def current(cls) -> Self:
        """Those of the current task."""
        shared = _SHARED.get()
        return shared if isinstance(shared, cls) else cls(CLIENT.get())

    def bind(self) -> None:
        """Make them those of the current task."""
        _SHARED.set(self)

    def include(self, others: "Requesters") -> None:
        """Add the clients of other work that needs this one, and those that join it later."""
        if others is not self:
            for client in others:
                self._add(client)
            others.watch(self._add)

    def watch(self, joined: Callable[[str], None]) -> None:
        """Call a function with each client that joins from now on."""
        self._watchers[joined] = None

    @contextmanager
    def watched(self, joined: Callable[[str], None]) -> Iterator[None]:
        """Call a function with each client that joins during the block."""
        self.watch(joined)
        try:
            yield
        finally:
            del self._watchers[joined]

    def _add(self, client: str) -> None:
        if client not in self._clients:
            self._clients[client] = None
            for joined in tuple(self._watchers):
                joined(client)


_SHARED: ContextVar[Requesters | None] = ContextVar("requesters", default=None)


QUEUE_LIMIT = 1000
"""Requests of one size that may wait for one host. Beyond it one fails at once, of the client that has the most."""


_IN_FLIGHT, _QUEUE = Bound(UPSTREAM_IN_FLIGHT), Bound(UPSTREAM_QUEUE)
_Turn = asyncio.Future[str]
"""What a waiting request waits for: the client that its place counts for."""


class QueueFull(Exception):
    """Too many requests wait for this host."""


class Size(IntEnum):
    """What a request moves: bodies of blobs are large, all else is small."""

    SMALL = 0
    LARGE = 1


class HostPlace:
    """A place at a host; its holder must release it."""

    __slots__ = ("_host_limit", "client", "counted_by", "is_reclaimed", "size")

    def __init__(self, host_limit: "HostLimit", size: Size, client: str) -> None:
        self._host_limit = host_limit
        self.size = size
        self.client = client
        self.is_reclaimed = False
        """Whether its holder must release it."""
        self.counted_by: Gauge | None = None
        """Counts it until it is released."""

    def reclaim(self) -> bool:
        """Whether the holder must release it now: one place is reclaimed for each request that waits."""
        return self._host_limit.reclaim(self)

    def release(self) -> None:
        """Give the place back and admit who waits."""
        self._host_limit.release(self)
        if self.counted_by is not None:
            self.counted_by.dec()


class HostLimit:
    """Admits at most `limit` requests, large ones to three quarters of it; waiting small ones go first."""

    def __init__(self, limit: int, queue_limit: int = QUEUE_LIMIT) -> None:
        self._queue_limit = queue_limit
        self._limits = {Size.SMALL: limit, Size.LARGE: max(limit * 3 // 4, 1)}
        self._held: dict[Size, Counter[str]] = {size: Counter() for size in Size}
        self._busy = {Size.SMALL: 0, Size.LARGE: 0}
        self._reclaimed = 0
        self._waiting: dict[Size, FairQueue[_Turn]] = {size: FairQueue(queue_limit) for size in Size}

    def __repr__(self) -> str:
        """What the status shows."""
        return f"{sum(self._busy.values())} of {self._limits[Size.SMALL]} in flight, {self._count_waiting()} waiting"

    async def acquire(self, size: Size) -> HostPlace:
        """Wait for a place; raises QueueFull. Whoever gets one must release it."""
        queue = self._waiting[size]
        has_place = self._has_place(size) and not queue.size
        requesters = Requesters.current()
        if has_place:
            client = next(iter(requesters))
            self._count(size, client)
            return HostPlace(self, size, client)
        turn: _Turn = asyncio.get_running_loop().create_future()
        refused = queue.push(turn, requesters)
        if refused is not None and not refused.done():
            refused.set_exception(QueueFull(f"{self._queue_limit} requests already wait for this host"))

        def join(client: str) -> None:
            if not turn.done():  # one that is admitted waits no more, though its task may not run yet
                queue.join(turn, client)

        try:
            with requesters.watched(join):
                return HostPlace(self, size, await turn)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # Admitted and cancelled in the same turn of the loop.
                self.release(HostPlace(self, size, turn.result()))
            raise
        finally:
            queue.remove(turn)

    def release(self, place: HostPlace) -> None:
        """Give a place back and admit who waits."""
        self._busy[place.size] -= 1
        self._reclaimed -= place.is_reclaimed
        held = self._held[place.size]
        held[place.client] -= 1
        if not held[place.client]:
            del held[place.client]
        for size in Size:
            while self._waiting[size].size and self._has_place(size):
                found = self._waiting[size].pop(self._held[size])
                if found is not None and not found[0].done():
                    turn, client = found
                    self._count(size, client)
                    turn.set_result(client)

    def reclaim(self, place: HostPlace) -> bool:
        """Whether a place must be released, as more requests wait than places are reclaimed already."""
        if not place.is_reclaimed and self._count_waiting() > self._reclaimed:
            place.is_reclaimed = True
            self._reclaimed += 1
        return place.is_reclaimed

    def _count_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _count(self, size: Size, client: str) -> None:
        self._busy[size] += 1
        self._held[size][client] += 1

    def _has_place(self, size: Size) -> bool:
        if sum(self._busy.values()) >= self._limits[Size.SMALL]:
            return False
        return size is Size.SMALL or self._busy[Size.LARGE] < self._limits[Size.LARGE]


class CountedHostLimit:
    """A host's limit as one upstream uses it: its requests that wait and that are inside are counted."""

    def __init__(self, host_limit: HostLimit, upstream: str) -> None:
        self._host_limit = host_limit
        self._waiting = _QUEUE[upstream,]
        self._inside = _IN_FLIGHT[upstream,]

    @asynccontextmanager
    async def admitted(self, size: Size) -> AsyncIterator[None]:
        """Wait for a place and hold it; raises QueueFull."""
        place = await self.acquire(size)
        try:
            yield
        finally:
            place.release()

    async def acquire(self, size: Size) -> HostPlace:
        """Wait for a place; raises QueueFull. Whoever gets one must release it."""
        with self._waiting.track_inprogress():
            place = await self._host_limit.acquire(size)
        self._inside.inc()
        place.counted_by = self._inside
        return place


LARGE_BODY = 256 * 1024
"""Bytes from which on a body that is read whole is large, as hardly any is ..."""
LARGE_AT_ONCE = 4
"""... and so many of these are read and understood at one time; clients that wait for more take turns."""
LARGE_SECONDS = 4.0
"""For so long a large body may come, while others wait."""

_LARGE_BODIES = HostLimit(LARGE_AT_ONCE)


@asynccontextmanager
async def large_place(size: int) -> AsyncIterator[HostPlace | None]:
    """Wait until so many bytes may be read, and hold the place if they are many; raises QueueFull."""
    if size <= LARGE_BODY:
        yield None
        return
    place = await _LARGE_BODIES.acquire(Size.SMALL)
    try:
        yield place
    finally:
        place.release()
