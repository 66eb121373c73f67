"""Reads small files whole, several in one turn of a thread, because a thread switch costs more than a read.

Every file is opened after its request, as if it were read alone: a removal or a new file is never missed.
"""

import asyncio
import errno
import functools
import os
from collections.abc import Sequence
from concurrent.futures import Future

from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.disk import HANGS, LOOKUPS, TimedThreads
from proxy.store.files import open_regular
from proxy.store.layout import Layout

SMALL_CONTENT = 64 * 1024
"""Maximum size of content that is read whole."""
AT_ONCE = 16
"""Maximum number of files per turn; bounds its memory, and how long its last reader waits."""
TURNS_LIMIT = 4
"""Maximum number of concurrent turns."""
SLOW_SECONDS = 0.002
"""Duration after which a turn is slow, and waiting readers get another thread."""

_Read = bytes | OSError | None
_Waiting = tuple[Digest, asyncio.Future[bytes | None]]


class SmallReader:
    """Reads the small files of a store."""

    def __init__(self, layout: Layout, threads: TimedThreads = LOOKUPS, slow_seconds: float = SLOW_SECONDS) -> None:
        self._layout = layout
        self._threads = threads
        self._slow_seconds = slow_seconds
        self._waiting: list[_Waiting] = []
        self._turns: set[_Turn] = set()
        """The running turns, without the late ones."""
        self._stuck: dict[Digest, _Turn] = {}
        """The late turns, by the file that each one is reading."""
        self._is_due = False
        self._look: asyncio.TimerHandle | None = None

    async def read(self, digest: Digest) -> bytes | None:
        """All bytes of a digest; None if it is not stored or not small. Raises OSError, StoreError.

        A failing disk may return fewer bytes: the caller checks the size.
        """
        self._threads.check()
        if digest in self._stuck:
            raise StoreError(HANGS, "timeout")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting.append((digest, future))
        self._call(loop)
        late = loop.call_later(self._threads.seconds, self._expire, future)
        try:
            return await future
        except BaseException:
            self._waiting = [waiting for waiting in self._waiting if waiting[1] is not future]
            raise
        finally:
            late.cancel()

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule a turn for the waiting readers: at once if none runs, else beside it once it is slow."""
        if not self._waiting or self._is_due:
            return
        if not self._turns:
            self._is_due = True
            loop.call_soon(self._begin, loop)
        elif self._look is None and len(self._turns) < TURNS_LIMIT:
            self._look = loop.call_later(self._slow_seconds, self._begin_beside, loop)

    def _begin_beside(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin another turn: the running one is slow."""
        self._look = None
        self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_due = False
        reading = {turn.current for turn in self._turns}  # readers of these wait: they would block another thread
        free = [waiting for waiting in self._waiting if waiting[0] not in reading][:AT_ONCE]
        if free:
            begun = {future for _, future in free}
            self._waiting = [waiting for waiting in self._waiting if waiting[1] not in begun]
            self._start(loop, _Turn(self._layout, free))
            self._call(loop)

    def _start(self, loop: asyncio.AbstractEventLoop, turn: "_Turn") -> None:
        try:
            call = self._threads.executor.submit(turn.read)
        except RuntimeError:  # the system starts no further thread, or the program is shutting down
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
        """Fail a reader with a timeout; the turn that would have read its file is late, and another one begins."""
        if future.done():
            return
        future.set_exception(StoreError(HANGS, "timeout"))
        for turn in self._turns:
            if turn.call is not None and any(waiting is future for _, waiting in turn.waiting):
                self._threads.count_late(turn.call)
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
    """The files that one thread call reads, one after the other."""

    def __init__(self, layout: Layout, waiting: Sequence[_Waiting]) -> None:
        self.waiting = waiting
        self.call: Future[None] | None = None
        self.current = waiting[0][0]
        """The file that is being read, or was read last."""
        self._layout = layout
        self._results: dict[Digest, _Read] = {}

    def read(self) -> None:
        """Read all files, in a thread."""
        for digest, future in self.waiting:
            if digest not in self._results and not future.done():
                self.current = digest
                self._results[digest] = _read(self._layout, digest)

    def hand_out(self, failure: BaseException | None) -> None:
        """Give each waiting reader its result; skips those that no longer wait."""
        for digest, future in self.waiting:
            if future.done():
                continue
            read = failure or self._results.get(digest)
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
