"""What nodes do at the moment: a stop waits until they have got all of what they are pulling."""

import asyncio
import time

LOOK_SECONDS = 0.05
"""How often a stop looks whether it is quiet."""


class Activity:
    """Requests of nodes in flight, and when the last one came or ended, on the monotonic clock."""

    def __init__(self) -> None:
        self.is_ending = False
        """Whether requests that are still in flight are being cut, as the stop has waited long enough."""
        self._in_flight = 0
        self._last = time.monotonic()

    def __enter__(self) -> None:
        """Note a request, for the length of the block."""
        self._in_flight += 1
        self._last = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._in_flight -= 1
        self._last = time.monotonic()

    @property
    def reason_of_cut(self) -> str:
        """Why a request is cancelled."""
        return "shutdown" if self.is_ending else "client_gone"

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._in_flight

    async def quiet(self, seconds: float) -> None:
        """Wait until nothing is in flight, and nothing comes for so many seconds: a pull is many requests."""
        asked = time.monotonic()
        while self._in_flight or time.monotonic() - max(self._last, asked) < seconds:  # noqa: ASYNC110 - time has no event
            await asyncio.sleep(LOOK_SECONDS)
