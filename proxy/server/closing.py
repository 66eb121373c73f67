"""A body that ends where its connection ends (HTTP/1.0, a length that nobody knows): it must not end early unnoticed.

Until such a body is whole its connection is set so that whatever closes it, the end of this process included, resets
it: the client gets an error, where the usual end would tell it that it has all (RFC 9112, sections 6.3 and 8).
"""

import asyncio
import contextlib
import socket
import struct

from aiohttp import HttpVersion11, web

_RESET, _USUAL = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


def ends_with_connection(request: web.BaseRequest, length: int | None) -> bool:
    """Whether a body of this length, if it has one, has no other end than that of the connection."""
    return length is None and request.version < HttpVersion11


def reset_on_close(transport: asyncio.Transport | None) -> None:
    """Let the connection be reset by whatever closes it from now on."""
    _set_linger(transport, _RESET)


async def end_properly(request: web.BaseRequest, stall: float) -> None:
    """Let the connection end as usual, once the system has all of the body; raises TimeoutError after `stall` s."""
    transport = request.transport
    if transport is not None:
        transport.set_write_buffer_limits(high=1, low=0)  # with 0 a connection with TLS is never through
        async with asyncio.timeout(stall):
            await request.writer.drain()
    _set_linger(transport, _USUAL)


def _set_linger(transport: asyncio.Transport | None, value: bytes) -> None:
    connection: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):  # it is closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)
