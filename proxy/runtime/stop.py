"""The end: pulls in flight are finished first, and nobody waits longer than they may."""

import asyncio
import logging
import time

from proxy.config.model import Timeouts
from proxy.server.listener.limits import InFlight

AGAIN_SECONDS = 1.0
"""How long after a signal another one is the same one."""

_logger = logging.getLogger(__name__)


class Stop:
    """Whether the program is to end, and whether at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._at_once = asyncio.Event()
        self._asked_at = 0.0

    def ask(self) -> None:
        """Have it end when it is quiet; asked again, have it end at once.

        Workers get one signal twice where it goes to the whole group (Ctrl-C, systemd): that is not asking again.
        """
        now = time.monotonic()
        if self.asked.is_set() and now - self._asked_at > AGAIN_SECONDS:
            self._at_once.set()
        elif not self.asked.is_set():
            self._asked_at = now
            self.asked.set()

    async def drain(self, in_flight: InFlight, timeouts: Timeouts) -> None:
        """Wait until nodes have what they are pulling, the grace is over, or somebody asks again."""
        _logger.info("stopping: %d requests in flight have %.0f s", in_flight.count, timeouts.shutdown_grace)
        try:
            async with asyncio.timeout(timeouts.shutdown_grace), asyncio.TaskGroup() as tasks:
                quiet = tasks.create_task(in_flight.quiet(timeouts.drain_idle))
                at_once = tasks.create_task(self._at_once.wait())
                await asyncio.wait((quiet, at_once), return_when=asyncio.FIRST_COMPLETED)
                quiet.cancel()
                at_once.cancel()
        except TimeoutError:
            _logger.warning("the grace is over: %d requests are cut", in_flight.count)
            return
        if self._at_once.is_set():
            _logger.warning("asked again: %d requests are cut", in_flight.count)
