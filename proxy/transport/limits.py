"""How many requests a host gets at once: small ones ahead of large ones, clients in turn."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum

from proxy.metrics import UPSTREAM_IN_FLIGHT, UPSTREAM_QUEUE, Bound
from proxy.transport.fair import FairQueue, Requesters

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

    __slots__ = ("_gate", "client", "is_reclaimed", "size")

    def __init__(self, gate: "Gate", size: Size, client: str) -> None:
        self._gate = gate
        self.size = size
        self.client = client
        self.is_reclaimed = False
        """Whether its holder has been told to release it."""

    def reclaim(self) -> bool:
        """Whether the holder must release it now: one place is reclaimed for each request that waits."""
        return self._gate.reclaim(self)

    def release(self) -> None:
        """Give the place back and admit who waits."""
        self._gate.release(self)


class Gate:
    """Admits at most `limit` requests, large ones to three quarters of it; waiting small ones go first."""

    def __init__(self, limit: int) -> None:
        self._limits = {Size.SMALL: limit, Size.LARGE: max(limit * 3 // 4, 1)}
        self._held: dict[Size, Counter[str]] = {size: Counter() for size in Size}
        self._busy = {Size.SMALL: 0, Size.LARGE: 0}
        self._reclaimed = 0
        self._waiting: dict[Size, FairQueue[_Turn]] = {size: FairQueue(QUEUE_LIMIT) for size in Size}

    def __repr__(self) -> str:
        """What the status shows."""
        return f"{sum(self._busy.values())} of {self._limits[Size.SMALL]} in flight, {self._count_waiting()} waiting"

    async def acquire(self, size: Size) -> HostPlace:
        """Wait for a place; raises QueueFull. Whoever gets one must release it."""
        requesters = Requesters.current()
        queue = self._waiting[size]
        if self._has_place(size) and not queue:
            client = next(iter(requesters))
            self._count(size, client)
            return HostPlace(self, size, client)
        turn: _Turn = asyncio.get_running_loop().create_future()
        refused = queue.push(turn, requesters)
        if refused is not None and not refused.done():
            refused.set_exception(QueueFull(f"{QUEUE_LIMIT} requests already wait for this host"))

        def join(client: str) -> None:
            if not turn.done():  # one that is admitted waits no more, though its task may not have gone on yet
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
            while self._waiting[size] and self._has_place(size):
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


class CountedGate:
    """A gate as one upstream goes through it: its requests that wait and that are inside are counted."""

    def __init__(self, gate: Gate, upstream: str) -> None:
        self._gate = gate
        self._waiting = _QUEUE[upstream,]
        self._inside = _IN_FLIGHT[upstream,]

    @asynccontextmanager
    async def admitted(self, size: Size) -> AsyncIterator[None]:
        """Wait for a place and hold it; raises QueueFull."""
        place = await self.acquire(size)
        try:
            yield
        finally:
            self.release(place)

    async def acquire(self, size: Size) -> HostPlace:
        """Wait for a place; raises QueueFull. Whoever gets one must release it."""
        with self._waiting.track_inprogress():
            place = await self._gate.acquire(size)
        self._inside.inc()
        return place

    def release(self, place: HostPlace) -> None:
        """Give the place back and admit who waits."""
        place.release()
        self._inside.dec()
