"""Several processes that share the listeners and the cache; their parent only watches over them."""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import time
from types import FrameType

from proxy.config.loaded import Loaded
from proxy.metrics import forget_process
from proxy.runtime.run import serve
from proxy.runtime.sockets import Sockets, StartError, bind

PR_SET_PDEATHSIG = 1
"""Number of the prctl call (Linux)."""
RESTART_PAUSE = 1.0
"""Seconds before a worker that died is replaced: one that cannot start must not be started without end at once."""

_logger = logging.getLogger(__name__)


class Supervisor:
    """Starts workers, replaces those that die, and passes SIGTERM on."""

    def __init__(self, loaded: Loaded, sockets: Sockets) -> None:
        self._loaded = loaded
        self._sockets = sockets
        self._workers: set[int] = set()
        self._stopping = False

    def run(self, count: int) -> None:
        """Keep so many workers running until SIGTERM or SIGINT; ends when the last of them has ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for _ in range(count):
            self._start()
        while self._workers:
            pid, status = os.wait()
            self._workers.discard(pid)
            forget_process(pid)
            if not self._stopping:
                _logger.error("worker %d ended with status %d, another takes its place", pid, status)
                time.sleep(RESTART_PAUSE)
                if not self._stopping:
                    self._start()

    def _start(self) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(self._work())
        self._workers.add(pid)

    def _work(self) -> int:
        """What a worker does; its exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _end_with_parent()
        try:
            asyncio.run(serve(self._loaded, self._sockets))
        except StartError:
            _logger.exception("a worker cannot start")
            return 1
        except BaseException:
            _logger.exception("a bug: a worker died")
            return 1
        return 0

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._stopping = True
        for pid in self._workers:
            os.kill(pid, number)


def _end_with_parent() -> None:
    """Have the kernel stop this worker when its parent is killed: nobody else would (Linux; elsewhere nothing)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def serve_with_workers(loaded: Loaded) -> None:
    """Serve a configuration with all its workers; raises StartError."""
    sockets = bind(loaded.config)
    try:
        Supervisor(loaded, sockets).run(loaded.config.workers)
    finally:
        sockets.close()
