"""Work on the disk: in threads of the store's own, so that a disk that hangs takes none from others; its errors."""

import asyncio
import contextlib
import errno
import functools
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from proxy.observe.metrics import CACHE_WRITE_ERROR_AT, CACHE_WRITE_ERRORS
from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.files import open_regular
from proxy.store.layout import Layout

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
_HANGS = "the disk of the cache does not answer"

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

    async def in_time(self, work: Callable[[], _Result], undo: Callable[[_Result], None] | None = None) -> _Result:
        """The result of `work`; raises StoreError where it does not come in time, and what `work` raises.

        Whoever is late or cancelled leaves at once. The thread goes on, and `undo` gets what it returns.
        """
        if self.is_late:
            raise StoreError(_HANGS, "timeout")
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
            self._late.add(call)
            call.add_done_callback(self._late.discard)
        raise StoreError(_HANGS, "timeout")


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
        raise StoreError(_HANGS, "timeout") from None


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


SMALL_CONTENT = 64 * 1024
"""Bytes of the largest content that is read whole."""
AT_ONCE = 16
"""Files that are read in one turn: so much memory it takes, and so long the last one waits for the first."""
TURNS_LIMIT = 4
"""Turns at one time."""
SLOW_SECONDS = 0.002
"""After which a turn is slow (the disk is), and who waits behind it gets another thread."""

_Read = bytes | OSError | None
_Waiting = tuple[Digest, asyncio.Future[bytes | None]]


class SmallReader:
    """Reads the small files of a store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._waiting: list[_Waiting] = []
        self._turns = 0
        self._is_due = False
        self._look: asyncio.TimerHandle | None = None

    async def read(self, digest: Digest) -> bytes | None:
        """All bytes of a digest; None where nothing is stored, or more than is small. Raises OSError, StoreError.

        A disk in trouble may give fewer: who asks knows how many there are.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting.append((digest, future))
        self._call(loop)
        late = loop.call_later(ANSWER_SECONDS, _expire, future)
        try:
            return await future
        except BaseException:
            self._waiting = [waiting for waiting in self._waiting if waiting[1] is not future]
            raise
        finally:
            late.cancel()

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have those who wait read for: with others who ask now, or where a turn is under way, soon after it."""
        if not self._waiting or self._is_due:
            return
        if not self._turns:
            self._is_due = True
            loop.call_soon(self._begin, loop)
        elif self._look is None and self._turns < TURNS_LIMIT:
            self._look = loop.call_later(SLOW_SECONDS, self._begin_beside, loop)

    def _begin_beside(self, loop: asyncio.AbstractEventLoop) -> None:
        """The turn under way is slow."""
        self._look = None
        self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_due = False
        turn, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        if turn:
            self._start(loop, turn)
            self._call(loop)

    def _start(self, loop: asyncio.AbstractEventLoop, turn: Sequence[_Waiting]) -> None:
        digests = tuple(dict.fromkeys(digest for digest, _ in turn))
        try:
            done = loop.run_in_executor(LOOKUPS.executor, _read_all, self._layout, digests)
        except RuntimeError:  # the system has no further thread for us, or we stop
            done = loop.create_future()
            done.set_exception(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
        self._turns += 1
        done.add_done_callback(self._ender(loop, turn))

    def _ender(
        self, loop: asyncio.AbstractEventLoop, turn: Sequence[_Waiting]
    ) -> Callable[[asyncio.Future[dict[Digest, _Read]]], None]:
        def end(done: asyncio.Future[dict[Digest, _Read]]) -> None:
            self._turns -= 1
            _hand_out(done, turn)
            if not self._is_due:
                self._begin(loop)

        return end


def _expire(future: asyncio.Future[bytes | None]) -> None:
    if not future.done():
        future.set_exception(StoreError("the disk of the cache does not answer", "timeout"))


def _hand_out(done: asyncio.Future[dict[Digest, _Read]], turn: Sequence[_Waiting]) -> None:
    """Give each who waits what was read for it; those who are gone get nothing."""
    failure = asyncio.CancelledError() if done.cancelled() else done.exception()
    found = {} if failure is not None else done.result()
    for digest, future in turn:
        if future.done():
            continue
        read = failure or found[digest]
        if isinstance(read, asyncio.CancelledError):
            future.cancel()
        elif isinstance(read, BaseException):
            future.set_exception(read)
        else:
            future.set_result(read)


def _read_all(layout: Layout, digests: Sequence[Digest]) -> dict[Digest, _Read]:
    return {digest: _read(layout, digest) for digest in digests}


def _read(layout: Layout, digest: Digest) -> _Read:
    try:
        descriptor = open_regular(layout.blob(digest))
        if descriptor is None:
            return None
        try:
            content = os.pread(descriptor, SMALL_CONTENT + 1, 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error
    return content if len(content) <= SMALL_CONTENT else None
