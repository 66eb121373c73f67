"""Sending stored bytes: by the kernel where the connection is plain, else through memory in large pieces."""

import asyncio
import errno
import functools
import os
import time
from dataclasses import dataclass

from aiohttp import web

from proxy.pull.blobs.live import ContentSpan
from proxy.store.blobs import Content, StoreError
from proxy.store.disk import in_thread, store_errors

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
        return self._at_once(content.descriptor, offset, length) or await content.read(offset, length)

    async def fetch(self, descriptor: int, offset: int, length: int) -> bool:
        """Have the system hold what it is to send by itself; False where that cannot be known. Raises StoreError.

        `sendfile` waits for the disk where it is called, which is the event loop: everybody would wait with it.
        """
        end = offset + length
        places = (*range(offset, end, PROBE_STEP), end - 1)
        missing = next((place for place in places if self._at_once(descriptor, place, 1) is None), end)
        if not self._may_ask:  # as on network file systems, which may hang at any time
            return False
        if missing == end:
            return True
        with store_errors("cannot read from the cache"):
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


SMALLEST = 256 * 1024
"""Bytes that are sent in one go to a client of unknown or little speed: its progress is seen that often."""
LARGEST = 16 * 1024 * 1024
"""Bytes in one go to a fast client."""
FAST_SECONDS = 0.5
"""A client that takes a piece in less than this gets twice as much next time."""
TURN = 1024 * 1024
"""Bytes that pass through memory for one client before others have their turn."""
_DISK = frozenset({errno.EIO, errno.ESTALE})
"""Errors of sendfile that are the file's; all others are the connection's."""


class SpanSender:
    """Sends spans to one client, in pieces that grow with its speed."""

    __slots__ = ("_piece", "_reader", "_request", "_response", "_since_turn", "_stall")

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse, stall: float) -> None:
        self._request = request
        self._response = response
        self._stall = stall
        self._piece = SMALLEST
        self._reader = SpanReader()
        self._since_turn = 0

    async def send(self, span: ContentSpan) -> None:
        """Send it; raises ConnectionError, TimeoutError for a client that makes no progress, and StoreError."""
        offset, end = span.offset, span.offset + span.length
        while offset < end:
            length = min(self._piece, end - offset)
            started = time.monotonic()
            async with asyncio.timeout(self._stall):
                await self._send(span.content, offset, length)
            fast = time.monotonic() - started < FAST_SECONDS
            self._piece = min(self._piece * 2, LARGEST) if fast else SMALLEST
            offset += length

    async def _send(self, content: Content, offset: int, length: int) -> None:
        transport = self._open_transport()
        is_plain = transport.get_extra_info("sslcontext") is None
        # Without a length the body goes in chunks, which the kernel cannot frame (`chunked` is not set then).
        is_framed = self._response.content_length is None
        descriptor = content.descriptor
        if descriptor is None or not is_plain or is_framed:
            # asyncio's own fallback reads 16 KiB at a time: seven times the CPU on TLS (cpython 152074).
            await self._copy(content, offset, length)
            return
        if not await self._reader.fetch(descriptor, offset, length):
            await self._copy(content, offset, length)
            return
        try:
            sent = await _sendfile(self._open_transport(), content.descriptor, offset, length)
        except asyncio.SendfileNotAvailableError:
            await self._copy(content, offset, length)
            return
        if sent != length:
            raise StoreError("the stored file is shorter than it was")

    def _open_transport(self) -> asyncio.Transport:
        """The client's connection; raises ConnectionResetError where it is closing, which `sendfile` calls a bug."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        return transport

    async def _copy(self, content: Content, offset: int, length: int) -> None:
        while length > 0:
            data = await self._reader.read(content, offset, min(length, SMALLEST))
            if not data:
                raise StoreError("the stored content is shorter than it was")
            await self._response.write(data)
            offset, length = offset + len(data), length - len(data)
            await self._let_others(len(data))

    async def _let_others(self, written: int) -> None:
        """A fast client whose bytes are at hand never waits for anything."""
        self._since_turn += written
        if self._since_turn >= TURN:
            self._since_turn = 0
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class _OpenFile:
    """All that the event loop asks of a file."""

    descriptor: int | None

    def fileno(self) -> int | None:
        return self.descriptor


async def _sendfile(transport: asyncio.Transport, descriptor: int | None, offset: int, length: int) -> int:
    """Send bytes of an open file."""
    loop, file = asyncio.get_running_loop(), _OpenFile(descriptor)
    try:
        return await loop.sendfile(transport, file, offset, length, fallback=False)  # type: ignore[arg-type]
    except OSError as error:
        if error.errno in _DISK:
            raise StoreError(f"cannot read from the cache: {error.strerror}", "eio") from error
        if isinstance(error, ConnectionError | TimeoutError):
            raise
        raise ConnectionResetError(str(error)) from error
