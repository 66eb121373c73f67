"""A disk scan that takes longer under load: one runs at a time, for all callers that came before it began."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from proxy.store.disk import LOOKUPS, within_timeout

Found = TypeVar("Found")


class SharedScan(Generic[Found]):
    """Runs a blocking scan in a thread; callers that come while one runs share the result of the next one."""

    def __init__(self, scan: Callable[[], Found]) -> None:
        self._scan = scan
        self._turn = asyncio.Lock()
        self._begun = 0
        self._latest: tuple[int, Found] | None = None
        """The number of the latest successful scan, and its result."""

    async def result(self) -> Found:
        """The result of a scan that begins after this call; raises StoreError and what the scan raises."""
        before = self._begun
        await within_timeout(self._turn.acquire())
        try:
            if self._latest is not None and self._latest[0] > before:
                return self._latest[1]
            self._begun += 1
            number = self._begun
            found = await LOOKUPS.in_time(self._scan)
            self._latest = number, found
            return found
        finally:
            self._turn.release()
