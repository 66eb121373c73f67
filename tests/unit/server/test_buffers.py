"""Little waits in the system for clients on the same machine, and what Linux finds right for all others."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.server.listener.buffers import LOCAL_BUFFER, bound_send_buffer

DOUBLED = 2
"""Linux doubles what it is told, and keeps half for its own use."""


def send_buffer(transport: asyncio.BaseTransport) -> int:
    size: int = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return size


@asynccontextmanager
async def connected() -> AsyncIterator[asyncio.BaseTransport]:
    """The server's end of a connection on this machine."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0)
    async with server:
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        served = await accepted
        try:
            yield served.transport
        finally:
            client.close()
            served.close()


async def test_little_waits_for_a_client_on_this_machine() -> None:
    async with connected() as transport:
        before = send_buffer(transport)
        bound_send_buffer(transport)
        assert send_buffer(transport) <= LOCAL_BUFFER * DOUBLED < before


@pytest.mark.parametrize(
    ("peer", "is_local"),
    [
        (("127.0.0.1", 1), True),
        (("127.9.9.9", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("10.0.0.7", 1), False),
        (("::ffff:10.0.0.7", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        ("", False),
        (None, False),
    ],
)
async def test_others_keep_what_the_system_finds_right(peer: object, is_local: bool) -> None:
    async with connected() as transport:
        before = send_buffer(transport)
        connection = transport.get_extra_info("socket")
        bound_send_buffer(asyncio.BaseTransport(extra={"socket": connection, "peername": peer}))
        assert (send_buffer(transport) != before) is is_local


def test_a_connection_that_is_gone_is_no_trouble() -> None:
    gone = socket.socket()
    gone.close()
    bound_send_buffer(asyncio.BaseTransport(extra={"socket": gone, "peername": ("127.0.0.1", 1)}))
    assert gone.fileno() == -1
