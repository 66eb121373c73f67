"""Time budgets: one deadline per request, carried by everything that waits for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self


class DeadlineExceeded(Exception):
    """The budget of the request is spent."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left; 0 when there are none."""
        return max(self.at - time.monotonic(), 0.0)

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """Bound what runs inside; raises DeadlineExceeded, and leaves other time-outs inside as they are."""
        scope = asyncio.timeout(self.remaining)
        try:
            async with scope:
                yield
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded from None
            raise
