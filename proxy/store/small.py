"""Reading small files whole, several of them in one turn of a thread: a turn costs more than reading a file does.

Every file is opened after it was asked for, as if each were read by itself: what was removed or written anew is seen.
"""

import asyncio
import os
from collections.abc import Callable, Sequence

from proxy.oci.reference import Digest
from proxy.store.files import open_regular
from proxy.store.layout import Layout

SMALL_CONTENT = 64 * 1024
"""Bytes of the largest content that is read whole."""
AT_ONCE = 16
"""Files that are read in one turn: so much memory it takes, and so long the last one waits for the first."""
TURNS_LIMIT = 4
"""Turns at one time."""
SLOW_SECONDS = 0.002
"""After which a turn is slow (the disk is), and what waits behind it gets another thread."""

_Read = bytes | OSError | None
_Waiting = tuple[Digest, asyncio.Future[bytes | None]]


class SmallReader:
    """Reads the small files of a store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._waiting: list[_Waiting] = []
        self._turns = 0
        self._is_due = False
        self._begun_at = 0.0

    async def read(self, digest: Digest) -> bytes | None:
        """All bytes of a digest; None where nothing is stored, or more than is small. Raises OSError.

        A disk in trouble may give fewer: who asks knows how many there are.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting.append((digest, future))
        if not self._is_due and (not self._turns or self._is_slow(loop.time())):
            self._is_due = True
            loop.call_soon(self._begin, loop)  # others who ask now come along
        return await future

    def _is_slow(self, now: float) -> bool:
        return self._turns < TURNS_LIMIT and now - self._begun_at > SLOW_SECONDS

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_due = False
        turn, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        if turn:
            self._turns += 1
            self._begun_at = loop.time()
            digests = tuple(dict.fromkeys(digest for digest, _ in turn))
            done = loop.run_in_executor(None, _read_all, self._layout, digests)
            done.add_done_callback(self._ender(loop, turn))

    def _ender(
        self, loop: asyncio.AbstractEventLoop, turn: Sequence[_Waiting]
    ) -> Callable[[asyncio.Future[dict[Digest, _Read]]], None]:
        def end(done: asyncio.Future[dict[Digest, _Read]]) -> None:
            self._turns -= 1
            if self._waiting and not self._is_due:
                self._begin(loop)
            _hand_out(done, turn)

        return end


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
