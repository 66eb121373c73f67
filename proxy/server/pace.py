"""Read rate of clients of pass-through responses: a slow client is cut while others wait for the upstream."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

TICKS = 12
"""Samples per measuring period."""


@dataclass(frozen=True, slots=True)
class ReadRate:
    """The minimum rate at which a client must read: bytes per second, measured over `seconds`."""

    rate: float
    seconds: float


class Pace:
    """The bytes read in the last period, from samples at equal intervals."""

    def __init__(self, ticks: int = TICKS) -> None:
        self._totals: deque[int] = deque(maxlen=ticks + 1)

    def add(self, total: int) -> int | None:
        """Add a sample of the total; returns the bytes of the last period, None until the first period ends."""
        self._totals.append(total)
        return total - self._totals[0] if len(self._totals) == self._totals.maxlen else None


class SlowClientWatch:
    """Watches the client of one pass-through response; buffered bytes do not count as read."""

    def __init__(self, request: web.BaseRequest, least: ReadRate, reclaim: Callable[[], bool]) -> None:
        self.has_cut = False
        self._request = request
        self._least = least
        self._reclaim = reclaim
        self._pace = Pace()
        self._written = 0
        self._timer: asyncio.TimerHandle | None = None

    def write(self, size: int) -> None:
        """Count bytes that are about to be written to the client."""
        self._written += size
        if self._timer is None:
            self._sample()

    def end(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _sample(self) -> None:
        transport = self._request.transport
        if transport is None:
            return
        read = self._pace.add(self._written - transport.get_write_buffer_size())
        is_slow = read is not None and read < self._least.rate * self._least.seconds
        # A client with an empty buffer waits for the upstream and is not slow.
        if is_slow and self._request.protocol.writing_paused and self._reclaim():
            self.has_cut = True
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(self._least.seconds / TICKS, self._sample)
