"""How fast a client reads what passes through: a slow one is cut while others wait for the upstream's place."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

TICKS = 12
"""Samples in the period over which the rate is measured."""


@dataclass(frozen=True, slots=True)
class ReadRate:
    """The rate that a client has to read at: bytes a second, over so many seconds."""

    rate: float
    seconds: float


class Pace:
    """The bytes that were read in the last period, from samples at equal intervals."""

    def __init__(self, ticks: int = TICKS) -> None:
        self._seen: deque[int] = deque(maxlen=ticks + 1)

    def add(self, total: int) -> int | None:
        """Add a sample of all bytes so far; returns those of the last period, None before the first one has ended."""
        self._seen.append(total)
        return total - self._seen[0] if len(self._seen) == self._seen.maxlen else None


class SlowClientWatch:
    """Watches the client of one response that passes through; bytes that are still buffered for it are not read yet."""

    def __init__(self, request: web.BaseRequest, least: ReadRate, reclaim: Callable[[], bool]) -> None:
        self.has_cut = False
        self._request = request
        self._least = least
        self._reclaim = reclaim
        self._pace = Pace()
        self._written = 0
        self._timer: asyncio.TimerHandle | None = None

    def write(self, size: int) -> None:
        """So many bytes are about to be written to the client."""
        self._written += size
        if self._timer is None:
            self._sample()

    def end(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sample(self) -> None:
        transport = self._request.transport
        if transport is None:
            return
        read = self._pace.add(self._written - transport.get_write_buffer_size())
        is_slow = read is not None and read < self._least.rate * self._least.seconds
        # While nothing is buffered for the client it waits for the upstream.
        if is_slow and self._request.protocol.writing_paused and self._reclaim():
            self.has_cut = True
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(self._least.seconds / TICKS, self._sample)
