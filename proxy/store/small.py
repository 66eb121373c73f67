"""Reading small files whole, several of them in one turn of a thread: a turn costs more than reading a file does.

Every file is opened after it was asked for, as if each were read by itself: what was removed or written anew is seen.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence

from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.files import open_regular
from proxy.store.layout import Layout
from proxy.store.threads import ANSWER_SECONDS, LOOKUPS

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
