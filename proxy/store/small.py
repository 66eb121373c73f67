"""Reading small files whole, several of them in one turn of a thread: a turn costs more than reading a file does.

Every file is opened after it was asked for, as if each were read by itself: what was removed or written anew is seen.
"""

import asyncio
import errno
import functools
import os
from collections.abc import Sequence
from concurrent.futures import Future

from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.disk import ANSWER_SECONDS, HANGS, LOOKUPS
from proxy.store.files import open_regular
from proxy.store.layout import Layout

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
        self._turns: set[_Turn] = set()
        """Those under way, without those that are late."""
        self._stuck: dict[Digest, _Turn] = {}
        """The late turns, by the file at which each one is."""
        self._is_due = False
        self._look: asyncio.TimerHandle | None = None

    async def read(self, digest: Digest) -> bytes | None:
        """All bytes of a digest; None where nothing is stored, or more than is small. Raises OSError, StoreError.

        A disk in trouble may give fewer: who asks knows how many there are.
        """
        LOOKUPS.check()
        if digest in self._stuck:
            raise StoreError(HANGS, "timeout")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting.append((digest, future))
        self._call(loop)
        late = loop.call_later(ANSWER_SECONDS, self._expire, future)
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
        elif self._look is None and len(self._turns) < TURNS_LIMIT:
            self._look = loop.call_later(SLOW_SECONDS, self._begin_beside, loop)

    def _begin_beside(self, loop: asyncio.AbstractEventLoop) -> None:
        """The turn under way is slow."""
        self._look = None
        self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_due = False
        reading = {turn.current for turn in self._turns}  # who wants one of them too does not hang beside it
        free = [waiting for waiting in self._waiting if waiting[0] not in reading][:AT_ONCE]
        if free:
            begun = {future for _, future in free}
            self._waiting = [waiting for waiting in self._waiting if waiting[1] not in begun]
            self._start(loop, _Turn(self._layout, free))
            self._call(loop)

    def _start(self, loop: asyncio.AbstractEventLoop, turn: "_Turn") -> None:
        try:
            call = LOOKUPS.executor.submit(turn.read)
        except RuntimeError:  # the system has no further thread for us, or we stop
            turn.hand_out(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
            return
        turn.call = call
        self._turns.add(turn)
        asyncio.wrap_future(call).add_done_callback(functools.partial(self._end, loop, turn))

    def _end(self, loop: asyncio.AbstractEventLoop, turn: "_Turn", done: asyncio.Future[None]) -> None:
        self._turns.discard(turn)
        self._stuck = {digest: late for digest, late in self._stuck.items() if late is not turn}
        turn.hand_out(asyncio.CancelledError() if done.cancelled() else done.exception())
        if not self._is_due:
            self._begin(loop)

    def _expire(self, future: asyncio.Future[bytes | None]) -> None:
        """Tell who waits that the disk hangs; the turn that would have read for it is late, and others begin."""
        if future.done():
            return
        future.set_exception(StoreError(HANGS, "timeout"))
        for turn in self._turns:
            if turn.call is not None and any(waiting is future for _, waiting in turn.waiting):
                LOOKUPS.count_late(turn.call)
                self._turns.discard(turn)
                self._stuck[turn.current] = turn
                self._refuse(turn.current)
                self._call(asyncio.get_running_loop())
                return

    def _refuse(self, stuck: Digest) -> None:
        for digest, future in self._waiting:
            if digest == stuck and not future.done():
                future.set_exception(StoreError(HANGS, "timeout"))


class _Turn:
    """Files that one call reads, one after the other."""

    def __init__(self, layout: Layout, waiting: Sequence[_Waiting]) -> None:
        self.waiting = waiting
        self.call: Future[None] | None = None
        self.current = waiting[0][0]
        """The file that is being read, or was last."""
        self._layout = layout
        self._found: dict[Digest, _Read] = {}

    def read(self) -> None:
        """Read all files, in a thread."""
        for digest, future in self.waiting:
            if digest not in self._found and not future.done():
                self.current = digest
                self._found[digest] = _read(self._layout, digest)

    def hand_out(self, failure: BaseException | None) -> None:
        """Give each who waits what was read for it; those who are gone get nothing."""
        for digest, future in self.waiting:
            if future.done():
                continue
            read = failure or self._found.get(digest)
            if isinstance(read, asyncio.CancelledError):
                future.cancel()
            elif isinstance(read, BaseException):
                future.set_exception(read)
            else:
                future.set_result(read)


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
