"""Several processes that share the listeners and the cache; their parent only watches over them."""

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
"""Seconds before a worker that died is replaced: one that cannot start must not be started without end at once."""

RETRY_LOOKS = 5
"""Looks after which a configuration that could not be used is read again."""
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM})
_logger = logging.getLogger(__name__)


class Supervisor:
    """Starts workers, replaces those that die, and passes SIGTERM on."""

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
        """Keep so many workers running until SIGTERM or SIGINT; ends when the last of them has ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        for _ in range(count):
            self._start()
        try:
            self._watch_over()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # its signal would end the program while it ends itself

    def _watch_over(self) -> None:
        while self._workers:
            pid, status = os.wait()
            self._workers.discard(pid)
            forget_process(pid)
            if not self._stopping:
                _logger.error("worker %d ended with status %d, another takes its place", pid, status)
                time.sleep(RESTART_PAUSE)
                self._start()

    def _start(self) -> None:
        # A signal between the fork and its handlers would be lost, or taken by handlers that are the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            if not self._stopping:  # only now: a worker that is forked after the stop would never hear of it
                parent = os.getpid()
                pid = os.fork()
                if pid == 0:
                    os._exit(self._work(parent))
                self._workers.add(pid)
        except OSError as error:
            raise StartError(f"cannot start a worker: {why_refused(error.errno or 0)}") from error
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _work(self, parent: int) -> int:
        """What a worker does; its exit status."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS - {signal.SIGHUP})  # that waits until there is a handler
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
        """Have the configuration read again if its file has changed."""
        seen = self._look_at_files()
        self._looks += 1
        if self._problems and self._looks % RETRY_LOOKS == 0:
            seen = ()  # a file that the configuration names may have come
        if seen != self._seen and not self._stopping:
            self._reload(number, frame)

    def _look_at_files(self) -> Stamps:
        """The state of the configuration and of the certificates that it names for upstreams."""
        return stamps((*self._origin.files, *tls_files(self._loaded.config)))

    def _reload(self, _: int, __: FrameType | None) -> None:
        """Have all workers read the configuration again, and start further ones with it."""
        seen = stamps(self._origin.files)  # before they are read: what changes meanwhile is seen later
        try:
            loaded = self._origin.load()
            refuse_closed(self._bound, loaded.config)
        except ConfigError as error:  # every worker says what is wrong
            self._problems = tuple(str(problem) for problem in error.problems)
        except ValueError as error:
            self._problems = (str(error),)
        else:
            # A worker that cannot start by it would be started without end.
            self._problems = preflight(loaded)
            self._loaded = self._loaded if self._problems else loaded
        self._seen = (*seen, *tls_stamps(self._loaded.config))
        self._send(signal.SIGHUP)

    def _send(self, number: int) -> None:
        """Send a signal to all workers, those aside that have just ended."""
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _end_with_parent(parent: int) -> bool:
    """Have the kernel stop this worker when its parent is killed: nobody else would (Linux; elsewhere nothing).

    False where the parent has ended already: of that the kernel tells nothing any more.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def serve_with_workers(loaded: Loaded, origin: ConfigSource) -> None:
    """Serve a configuration with all its workers; raises StartError."""
    sockets = bind(loaded.config)
    try:
        Supervisor(loaded, sockets, origin).run(loaded.config.workers)
    finally:
        sockets.close()
