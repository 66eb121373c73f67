"""How many requests a host gets at once: small ones ahead of large ones."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import IntEnum

from proxy.metrics import UPSTREAM_IN_FLIGHT, UPSTREAM_QUEUE, Bound

QUEUE_LIMIT = 1000
"""Requests of one size that may wait for one host; further ones fail at once."""


_IN_FLIGHT, _QUEUE = Bound(UPSTREAM_IN_FLIGHT), Bound(UPSTREAM_QUEUE)


class QueueFull(Exception):
    """Too many requests wait for this host."""


class Size(IntEnum):
    """What a request moves: bodies of blobs are large, all else is small."""

    SMALL = 0
    LARGE = 1


class Gate:
    """Admits at most `limit` requests, large ones to three quarters of it; waiting small ones go first."""

    def __init__(self, limit: int) -> None:
        self._limits = {Size.SMALL: limit, Size.LARGE: max(limit * 3 // 4, 1)}
        self._busy = {Size.SMALL: 0, Size.LARGE: 0}
        self._waiting: dict[Size, deque[asyncio.Future[None]]] = {Size.SMALL: deque(), Size.LARGE: deque()}

    def __repr__(self) -> str:
        """What the status shows."""
        waiting = sum(map(len, self._waiting.values()))
        return f"{sum(self._busy.values())} of {self._limits[Size.SMALL]} in flight, {waiting} waiting"

    async def acquire(self, size: Size) -> None:
        """Wait for a place; raises QueueFull. Whoever gets one must release it."""
        if self._has_place(size) and not self._waiting[size]:
            self._busy[size] += 1
            return
        if len(self._waiting[size]) >= QUEUE_LIMIT:
            raise QueueFull(f"{QUEUE_LIMIT} requests already wait for this host")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[size].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size)  # admitted and cancelled in the same turn of the loop
            else:
                with suppress(ValueError):  # already taken out by a release
                    self._waiting[size].remove(turn)
            raise

    def release(self, size: Size) -> None:
        """Give the place back and admit who waits."""
        self._busy[size] -= 1
        for waiting_size in Size:
            queue = self._waiting[waiting_size]
            while queue and self._has_place(waiting_size):
                turn = queue.popleft()
                if not turn.done():
                    self._busy[waiting_size] += 1
                    turn.set_result(None)

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
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    async def acquire(self, size: Size) -> None:
        """Wait for a place; raises QueueFull. Whoever gets one must release it."""
        with self._waiting.track_inprogress():
            await self._gate.acquire(size)
        self._inside.inc()

    def release(self, size: Size) -> None:
        """Give the place back and admit who waits."""
        self._gate.release(size)
        self._inside.dec()
