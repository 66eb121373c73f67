"""Several worker processes that share the listeners and the cache; their parent only supervises them."""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import time
from dataclasses import replace
from types import FrameType

from proxy.config.errors import ConfigError
from proxy.config.load import Loaded
from proxy.observe.metrics import forget_process
from proxy.runtime.generation import Stamps, stamps, tls_files, tls_stamps
from proxy.runtime.preflight import preflight
from proxy.runtime.reload import LOOK_SECONDS, ConfigSource, refuse_closed
from proxy.runtime.run import serve
from proxy.runtime.sockets import Sockets, StartError, bind, threads_needed, why_refused

PR_SET_PDEATHSIG = 1
"""Number of the prctl call (Linux)."""
RESTART_PAUSE = 1.0
"""Seconds before a dead worker is replaced, so that one that cannot start does not cause a busy loop."""

RETRY_LOOKS = 5
"""Number of checks of the files after which an unusable configuration is read again."""
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM})
_logger = logging.getLogger(__name__)


class Supervisor:
    """Starts workers, replaces those that die, and forwards signals to them."""

    def __init__(self, loaded: Loaded, sockets: Sockets, origin: ConfigSource) -> None:
        self._loaded = loaded
        self._bound = loaded.config
        self._problems: tuple[str, ...] = ()
        self._origin = origin
        self._seen: Stamps = (*origin.seen, *tls_stamps(loaded.config))
        self._looks = 0
        self._sockets = sockets
        self._workers: set[int] = set()
        self._stopping = False

    def run(self, count: int) -> None:
        """Keep `count` workers running until SIGTERM or SIGINT; returns when the last of them has ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        for _ in range(count):
            self._start()
        try:
            self._supervise()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # a late SIGALRM would kill the process during its exit

    def _supervise(self) -> None:
        while self._workers:
            pid, status = os.wait()
            self._workers.discard(pid)
            forget_process(pid)
            if not self._stopping:
                _logger.error("worker %d ended with status %d: starting another one", pid, status)
                time.sleep(RESTART_PAUSE)
                self._start()

    def _start(self) -> None:
        # Else a signal between the fork and the worker's own handlers would be lost, or run the parent's handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            if not self._stopping:  # checked under the mask: a worker forked after the stop would not get the signal
                parent = os.getpid()
                pid = os.fork()
                if pid == 0:
                    os._exit(self._work(parent))
                self._workers.add(pid)
        except OSError as error:
            raise StartError(f"cannot start a worker: {why_refused(error.errno or 0)}") from error
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _work(self, parent: int) -> int:
        """Run a worker; returns its exit status."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS - {signal.SIGHUP})  # held until its handler is set
        if not _end_with_parent(parent):
            return 1
        try:
            origin = replace(self._origin, watches=False, problems=self._problems)
            with threads_needed():
                asyncio.run(serve(self._loaded, self._sockets, origin, self._bound))
        except StartError as error:
            _logger.error("a worker cannot start: %s", error)  # noqa: TRY400 - an operator's matter, not a bug
            return 1
        except BaseException:
            _logger.exception("a bug: a worker died")
            return 1
        return 0

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._stopping = True
        self._send(number)

    def _look(self, number: int, frame: FrameType | None) -> None:
        """Reload if the files have changed, and at times to retry a failed reload."""
        seen = self._look_at_files()
        self._looks += 1
        if self._problems and self._looks % RETRY_LOOKS == 0:
            seen = ()  # a missing file that the configuration names may exist now
        if seen != self._seen and not self._stopping:
            self._reload(number, frame)

    def _look_at_files(self) -> Stamps:
        """The states of the configuration files and of the TLS files for upstreams."""
        return stamps((*self._origin.files, *tls_files(self._loaded.config)))

    def _reload(self, _: int, __: FrameType | None) -> None:
        """Make all workers reload, and start further ones with the new configuration."""
        seen = stamps(self._origin.files)  # before the read, so that a change during it is noticed later
        try:
            loaded = self._origin.load()
            refuse_closed(self._bound, loaded.config)
        except ConfigError as error:  # every worker logs the problems
            self._problems = tuple(str(problem) for problem in error.problems)
        except ValueError as error:
            self._problems = (str(error),)
        else:
            # Workers that cannot start with it would be restarted forever.
            self._problems = preflight(loaded)
            self._loaded = self._loaded if self._problems else loaded
        self._seen = (*seen, *tls_stamps(self._loaded.config))
        self._send(signal.SIGHUP)

    def _send(self, number: int) -> None:
        """Send a signal to all workers; ignores those that have just ended."""
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _end_with_parent(parent: int) -> bool:
    """Make the kernel send SIGTERM to this worker when its parent dies (Linux; elsewhere does nothing).

    Returns False if the parent has ended already: then the kernel sends no signal.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def serve_with_workers(loaded: Loaded, origin: ConfigSource) -> None:
    """Bind the sockets and serve with the configured number of workers; raises StartError."""
    sockets = bind(loaded.config)
    try:
        Supervisor(loaded, sockets, origin).run(loaded.config.workers)
    finally:
        sockets.close()
