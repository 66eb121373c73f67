"""Shutdown: finishes pulls in flight, within a time limit."""

import asyncio
import logging
import time

from proxy.config.model import Timeouts
from proxy.server.listener.limits import InFlight

AGAIN_SECONDS = 1.0
"""Interval in which a second signal counts as the same one."""

_logger = logging.getLogger(__name__)


class Stop:
    """A requested shutdown, graceful or immediate."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self._at_once = asyncio.Event()
        self._requested_at = 0.0

    def request(self) -> None:
        """Request a graceful shutdown; a second request makes it immediate.

        If a signal goes to the whole process group (Ctrl-C, systemd), workers get it twice: that is one request.
        """
        now = time.monotonic()
        if self.requested.is_set() and now - self._requested_at > AGAIN_SECONDS:
            self._at_once.set()
        elif not self.requested.is_set():
            self._requested_at = now
            self.requested.set()

    async def drain(self, in_flight: InFlight, timeouts: Timeouts) -> None:
        """Wait until the requests in flight have ended, shutdownGrace is over, or a second request comes."""
        _logger.info("shutting down: waiting up to %.0f s for %d requests", timeouts.shutdown_grace, in_flight.count)
        try:
            async with asyncio.timeout(timeouts.shutdown_grace), asyncio.TaskGroup() as tasks:
                quiet = tasks.create_task(in_flight.quiet(timeouts.drain_idle))
                at_once = tasks.create_task(self._at_once.wait())
                await asyncio.wait((quiet, at_once), return_when=asyncio.FIRST_COMPLETED)
                quiet.cancel()
                at_once.cancel()
        except TimeoutError:
            _logger.warning("shutdownGrace is over: aborting %d requests", in_flight.count)
            return
        if self._at_once.is_set():
            _logger.warning("second signal: aborting %d requests", in_flight.count)
