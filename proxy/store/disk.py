"""Disk access in threads of the store's own, so that a hanging disk blocks no other work; maps errors to StoreError."""

import asyncio
import contextlib
import errno
import functools
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from proxy.observe.metrics import CACHE_WRITE_ERROR_AT, CACHE_WRITE_ERRORS
from proxy.store.blobs import StoreError

_REASONS = {
    errno.ENOSPC: "enospc",
    errno.EDQUOT: "edquot",
    errno.EIO: "eio",
    errno.EROFS: "erofs",
    errno.EMFILE: "emfile",
    errno.ENFILE: "emfile",
}
REASONS = (*sorted(set(_REASONS.values())), "timeout", "other")
"""Every reason that a StoreError can have."""


_SQLITE_REASONS = {
    sqlite3.SQLITE_FULL: "enospc",
    sqlite3.SQLITE_IOERR: "eio",
    sqlite3.SQLITE_READONLY: "erofs",
}
_PRIMARY = 0xFF
"""Mask for the primary result code in an extended SQLite error code."""


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Raise an OSError or SQLite error from the block as a StoreError; `what` says which action failed."""
    try:
        yield
    except sqlite3.Error as error:
        reason = _SQLITE_REASONS.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY, "other")
        raise StoreError(f"{what}: {error}", reason) from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, "other")
        raise StoreError(f"{what}: {error.strerror or error}", reason) from error


def count_write_error(error: StoreError) -> None:
    """Count a failed write in the metrics."""
    CACHE_WRITE_ERRORS.labels(error.reason).inc()
    CACHE_WRITE_ERROR_AT.labels(error.reason).set(time.time())


DISK_SECONDS = 2.0
"""How long a client waits for the disk: to open a file, to look it up, to read a manifest."""
LOOKUP_THREADS = 8
"""Threads for lookups, which clients wait for."""
LATE_LIMIT = 4
"""Number of late lookups at which further ones are refused until one of them has ended."""
WORK_THREADS = 16
"""Threads for writes and for reading bodies."""
HANGS = "the disk of the cache does not respond"

_Result = TypeVar("_Result")


class TimedThreads:
    """Runs calls in threads of an executor, and waits at most `seconds` for each of them."""

    def __init__(self, executor: Executor, late_limit: int, seconds: float = DISK_SECONDS) -> None:
        self.executor = executor
        self.seconds = seconds
        self._late_limit = late_limit
        self._late: set[Future[Any]] = set()

    @property
    def is_late(self) -> bool:
        """Whether the limit of late calls is reached; further calls are then refused."""
        return len(self._late) >= self._late_limit

    def check(self) -> None:
        """Raise StoreError if further calls are refused."""
        if self.is_late:
            raise StoreError(HANGS, "timeout")

    def count_late(self, call: Future[Any]) -> None:
        """Count a call, whose caller no longer waits, as late until it has ended."""
        if not call.done():
            self._late.add(call)
            call.add_done_callback(self._late.discard)

    async def in_time(self, work: Callable[[], _Result], undo: Callable[[_Result], None] | None = None) -> _Result:
        """The result of `work`; raises StoreError on a timeout, and what `work` raises.

        On a timeout or a cancellation this returns at once. The thread continues, and `undo` gets its result.
        """
        self.check()
        try:
            call = self.executor.submit(work)
        except RuntimeError as error:  # the system starts no further thread, or the program is shutting down
            raise StoreError(f"cannot use the cache: {error}") from error
        future = asyncio.wrap_future(call)
        try:
            await asyncio.wait([future], timeout=self.seconds)
        except asyncio.CancelledError:
            _leave(call, future, undo)
            raise
        if future.done():
            return future.result()
        if not _leave(call, future, undo):
            self.count_late(call)
        raise StoreError(HANGS, "timeout")


LOOKUPS = TimedThreads(ThreadPoolExecutor(LOOKUP_THREADS, "store-lookup"), LATE_LIMIT)
"""The lookup threads, shared by all stores of this process."""
_WORK = ThreadPoolExecutor(WORK_THREADS, "store-work")


def _leave(call: Future[_Result], future: "asyncio.Future[_Result]", undo: Callable[[_Result], None] | None) -> bool:
    """Abandon a call; returns whether it was cancelled before it started."""
    is_cancelled = call.cancel()
    future.cancel()
    if not is_cancelled and undo is not None:
        call.add_done_callback(functools.partial(_undo, undo))
    return is_cancelled


def _undo(undo: Callable[[_Result], None], call: Future[_Result]) -> None:
    if not call.cancelled() and call.exception() is None:
        with contextlib.suppress(RuntimeError):  # the program is shutting down
            _WORK.submit(undo, call.result())


async def within_timeout(work: Awaitable[_Result], seconds: float = DISK_SECONDS) -> _Result:
    """The result of an awaitable, which is cancelled on a timeout; then raises StoreError."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise StoreError(HANGS, "timeout") from None


def in_thread(work: Callable[[], _Result]) -> "asyncio.Future[_Result]":
    """The result of `work`, without a timeout; when cancelled, the thread continues."""
    return asyncio.get_running_loop().run_in_executor(_WORK, work)


async def to_the_end(work: Callable[[], _Result], undo: Callable[[_Result], None] | None = None) -> _Result:
    """The result of `work`, run in a thread; when cancelled, first waits for it to end and undoes it.

    A write that continues after its file is closed could hit another file with the same descriptor number, and the
    descriptor of an abandoned open would leak.
    """
    future = in_thread(work)
    cancelled: asyncio.CancelledError | None = None
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as error:
        if future.cancelled():  # the threads are shut down, or `work` has raised it
            raise
        cancelled = error
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:  # cancel() may be called more than once
            cancelled = error
    if future.exception() is None and undo is not None:
        await to_the_end(functools.partial(undo, future.result()))
    raise cancelled
