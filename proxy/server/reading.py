"""Reading stored bytes that go through memory: at once where the system holds them already, else in a thread."""

import os

from proxy.store.blobs import Content


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
