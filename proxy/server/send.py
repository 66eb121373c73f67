"""Sends stored bytes: with sendfile on plain connections, else through memory in large pieces."""

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
"""Step in bytes at which the page cache is probed."""


class SpanReader:
    """Reads content for one client.

    Reads in the event loop if the page cache has the data: a thread costs more than such a read.
    """

    __slots__ = ("_can_probe",)

    def __init__(self) -> None:
        self._can_probe = True

    async def read(self, content: Content, offset: int, length: int) -> bytes | bytearray | memoryview:
        """Up to `length` bytes in a buffer that is not reused; raises StoreError."""
        return self._read_cached(content.descriptor, offset, length) or await content.read(offset, length)

    async def fetch(self, descriptor: int, offset: int, length: int) -> bool:
        """Load the bytes into the page cache for `sendfile`; False if that cannot be probed. Raises StoreError.

        `sendfile` on bytes outside the page cache would block the event loop until the disk responds.
        """
        end = offset + length
        offsets = (*range(offset, end, PROBE_STEP), end - 1)
        missing = next((at for at in offsets if self._read_cached(descriptor, at, 1) is None), end)
        if not self._can_probe:  # such as network file systems, which may hang at any time
            return False
        if missing == end:
            return True
        with store_errors("cannot read from the cache"):
            return await in_thread(functools.partial(_load, descriptor, missing, end))

    def _read_cached(self, descriptor: int | None, offset: int, length: int) -> bytearray | memoryview | None:
        """The bytes in the page cache; None if there are none, or if the file system does not support the probe."""
        if descriptor is None or not self._can_probe:
            return None
        # A new buffer for each read: a transport may keep a reference to it.
        buffer = bytearray(length)
        try:
            count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError:  # not supported by the file system; the thread reports errors of the disk
            self._can_probe = False
            return None
        return buffer if count == length else memoryview(buffer)[:count]


def _load(descriptor: int, offset: int, end: int) -> bool:
    """Read bytes into the page cache; the file may end early. Blocks. Raises OSError.

    False if no file descriptor is left.
    """
    try:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # sendfile to /dev/null copies nothing: a twentieth of the CPU time of a read.
        while offset < end and (count := os.sendfile(null, descriptor, offset, end - offset)):
            offset += count
        return True
    finally:
        os.close(null)


SMALLEST = 256 * 1024
"""Bytes per piece for a slow or new client: progress is checked after each piece."""
LARGEST = 16 * 1024 * 1024
"""Maximum bytes per piece, for a fast client."""
FAST_SECONDS = 0.5
"""A client that reads a piece in less time gets a piece of twice the size."""
TURN = 1024 * 1024
"""Bytes copied through memory for one client before the event loop serves others."""
_DISK = frozenset({errno.EIO, errno.ESTALE})
"""sendfile errors of the file; all others are errors of the connection."""


class SpanSender:
    """Sends spans to one client in pieces that grow with its speed."""

    __slots__ = ("_piece", "_reader", "_request", "_response", "_since_turn", "_stall")

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse, stall: float) -> None:
        self._request = request
        self._response = response
        self._stall = stall
        self._piece = SMALLEST
        self._reader = SpanReader()
        self._since_turn = 0

    async def send(self, span: ContentSpan) -> None:
        """Send a span; raises ConnectionError, TimeoutError (the client makes no progress) and StoreError."""
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
        # A body without length is sent in chunks, which sendfile cannot frame (`chunked` is not set then).
        is_framed = self._response.content_length is None
        descriptor = content.descriptor
        if descriptor is None or not is_plain or is_framed:
            # asyncio's fallback reads 16 KiB at a time: seven times the CPU on TLS (cpython 152074).
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
            raise StoreError("the stored file is truncated")

    def _open_transport(self) -> asyncio.Transport:
        """The client's connection; raises ConnectionResetError if it is closing (`sendfile` raises RuntimeError)."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has closed the connection")
        return transport

    async def _copy(self, content: Content, offset: int, length: int) -> None:
        while length > 0:
            data = await self._reader.read(content, offset, min(length, SMALLEST))
            if not data:
                raise StoreError("the stored content is truncated")
            await self._response.write(data)
            offset, length = offset + len(data), length - len(data)
            await self._yield_turn(len(data))

    async def _yield_turn(self, written: int) -> None:
        """Let the event loop serve others: writes to a fast client never wait."""
        self._since_turn += written
        if self._since_turn >= TURN:
            self._since_turn = 0
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class _OpenFile:
    """A file object with the only method that `loop.sendfile` uses."""

    descriptor: int | None

    def fileno(self) -> int | None:
        return self.descriptor


async def _sendfile(transport: asyncio.Transport, descriptor: int | None, offset: int, length: int) -> int:
    """Send bytes of an open file; raises StoreError for the file, ConnectionError for the connection."""
    loop, file = asyncio.get_running_loop(), _OpenFile(descriptor)
    try:
        return await loop.sendfile(transport, file, offset, length, fallback=False)  # type: ignore[arg-type]
    except OSError as error:
        if error.errno in _DISK:
            raise StoreError(f"cannot read from the cache: {error.strerror}", "eio") from error
        if isinstance(error, ConnectionError | TimeoutError):
            raise
        raise ConnectionResetError(str(error)) from error
