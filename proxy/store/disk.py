"""Work on the disk: in threads of the store's own, so that a disk that hangs takes none from others; its errors."""

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
"""The bits of an SQLite error code that are not details."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an OSError or an error of SQLite inside into a StoreError that says what was tried."""
    try:
        yield
    except sqlite3.Error as error:
        reason = _SQLITE_REASONS.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY, "other")
        raise StoreError(f"{what}: {error}", reason) from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, "other")
        raise StoreError(f"{what}: {error.strerror or error}", reason) from error


def note_unkept(error: StoreError) -> None:
    """Count something that could not be stored."""
    CACHE_WRITE_ERRORS.labels(error.reason).inc()
    CACHE_WRITE_ERROR_AT.labels(error.reason).set(time.time())


ANSWER_SECONDS = 2.0
"""How long a client waits for an answer of the disk: to open, to look up, to read a manifest."""
LOOKUP_THREADS = 8
"""Threads for what a client waits for."""
LATE_LIMIT = 4
"""Lookups without an answer in time after which no other one is tried until one of them has ended."""
WORK_THREADS = 16
"""Threads for writing, and for reading bodies."""
HANGS = "the disk of the cache does not answer"

_Result = TypeVar("_Result")


class TimedThreads:
    """Runs calls in threads of an executor, and waits for none of them longer than 2 s."""

    def __init__(self, executor: Executor, late_limit: int) -> None:
        self.executor = executor
        self._late_limit = late_limit
        self._late: set[Future[Any]] = set()

    @property
    def is_late(self) -> bool:
        """Whether so many calls are late that no other one is tried."""
        return len(self._late) >= self._late_limit

    def check(self) -> None:
        """Raise StoreError where no other call is tried."""
        if self.is_late:
            raise StoreError(HANGS, "timeout")

    def count_late(self, call: Future[Any]) -> None:
        """Count a call as late until it has ended: whoever waited for it has had no answer in time."""
        if not call.done():
            self._late.add(call)
            call.add_done_callback(self._late.discard)

    async def in_time(self, work: Callable[[], _Result], undo: Callable[[_Result], None] | None = None) -> _Result:
        """The result of `work`; raises StoreError where it does not come in time, and what `work` raises.

        Whoever is late or cancelled leaves at once. The thread goes on, and `undo` gets what it returns.
        """
        self.check()
        try:
            call = self.executor.submit(work)
        except RuntimeError as error:  # the system has no further thread for us, or we stop
            raise StoreError(f"the cache cannot be used: {error}") from error
        future = asyncio.wrap_future(call)
        try:
            await asyncio.wait([future], timeout=ANSWER_SECONDS)
        except asyncio.CancelledError:
            _leave(call, future, undo)
            raise
        if future.done():
            return future.result()
        if not _leave(call, future, undo):
            self.count_late(call)
        raise StoreError(HANGS, "timeout")


LOOKUPS = TimedThreads(ThreadPoolExecutor(LOOKUP_THREADS, "store-lookup"), LATE_LIMIT)
"""What looks things up in any store of this process."""
_WORK = ThreadPoolExecutor(WORK_THREADS, "store-work")


def _leave(call: Future[_Result], future: "asyncio.Future[_Result]", undo: Callable[[_Result], None] | None) -> bool:
    """Take no result of a call; whether it was not even begun."""
    is_cancelled = call.cancel()
    future.cancel()
    if not is_cancelled and undo is not None:
        call.add_done_callback(functools.partial(_undo, undo))
    return is_cancelled


def _undo(undo: Callable[[_Result], None], call: Future[_Result]) -> None:
    if not call.cancelled() and call.exception() is None:
        with contextlib.suppress(RuntimeError):  # the program ends
            _WORK.submit(undo, call.result())


async def answered(work: Awaitable[_Result]) -> _Result:
    """The result of something that can be cancelled at any time; raises StoreError where it does not come in time."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await work
    except TimeoutError:
        raise StoreError(HANGS, "timeout") from None


def in_thread(work: Callable[[], _Result]) -> "asyncio.Future[_Result]":
    """The result of `work`, which may take any time; whoever is cancelled leaves the thread behind."""
    return asyncio.get_running_loop().run_in_executor(_WORK, work)


async def to_the_end(work: Callable[[], _Result], undo: Callable[[_Result], None] | None = None) -> _Result:
    """The result of `work`, run in a thread; when cancelled, wait for it all the same and undo it.

    A write that went on while its file is closed could hit another file that got the same descriptor, and an open
    file that nobody gets would stay open for good.
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
        except asyncio.CancelledError as error:  # it may come more than once
            cancelled = error
    if future.exception() is None and undo is not None:
        await to_the_end(functools.partial(undo, future.result()))
    raise cancelled
