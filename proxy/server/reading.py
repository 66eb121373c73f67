"""Reading stored bytes: at once where the system holds them, else in a thread: the event loop waits for no disk."""

import functools
import os

from proxy.store.blobs import Content
from proxy.store.threads import in_thread
from proxy.store.trouble import translated

PROBE_STEP = 1024 * 1024
"""Bytes of which the first one tells whether the system holds them."""


class SpanReader:
    """Reads content for one client.

    A thread costs more than the reading itself, and what is sent again and again lies in the page cache.
    """

    __slots__ = ("_may_ask",)

    def __init__(self) -> None:
        self._may_ask = True

    async def read(self, content: Content, offset: int, length: int) -> bytes | bytearray | memoryview:
        """Up to `length` bytes, which nobody changes later; raises StoreError."""
        return self._at_once(content.fileno(), offset, length) or await content.read(offset, length)

    async def fetch(self, content: Content, offset: int, length: int) -> bool:
        """Have the system hold what it is to send by itself; False where that cannot be known. Raises StoreError.

        `sendfile` waits for the disk where it is called, which is the event loop: everybody would wait with it.
        """
        descriptor = content.fileno()
        if descriptor is None:
            return False
        end = offset + length
        places = (*range(offset, end, PROBE_STEP), end - 1)
        missing = next((place for place in places if self._at_once(descriptor, place, 1) is None), end)
        if not self._may_ask:  # as on network file systems, which may hang at any time
            return False
        if missing == end:
            return True
        with translated("cannot read from the cache"):
            return await in_thread(functools.partial(_bring, descriptor, missing, end))

    def _at_once(self, descriptor: int | None, offset: int, length: int) -> bytearray | memoryview | None:
        """What can be read without waiting for a disk; None where nothing can, or the file system cannot tell."""
        if descriptor is None or not self._may_ask:
            return None
        # Never one buffer for all of them: a transport may keep what it was given.
        buffer = bytearray(length)
        try:
            count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError:  # a file system that cannot do this; a broken disk is found, and told of, by the thread
            self._may_ask = False
            return None
        return buffer if count == length else memoryview(buffer)[:count]


def _bring(descriptor: int, offset: int, end: int) -> bool:
    """Have the system read what it does not hold; the end may come early. Blocks. Raises OSError.

    False where no descriptor is left for it.
    """
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # What goes there is never copied: a twentieth of the CPU time of reading it.
        while offset < end and (count := os.sendfile(nowhere, descriptor, offset, end - offset)):
            offset += count
        return True
    finally:
        os.close(nowhere)
