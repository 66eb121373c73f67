"""Little waits in the system for clients that are near, and what Linux finds right for all others."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.server import buffers
from proxy.server.buffers import NEAR_BUFFER, bound_send_buffer

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


async def test_little_waits_for_who_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "NEAR", 1_000_000)  # a busy machine is far from itself
    async with connected() as transport:
        bound_send_buffer(transport)
        assert send_buffer(transport) <= NEAR_BUFFER * DOUBLED


async def test_who_is_far_gets_what_the_system_finds_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "NEAR", 0)
    async with connected() as transport:
        before = send_buffer(transport)
        bound_send_buffer(transport)
        assert send_buffer(transport) == before


async def test_what_is_no_network_is_left_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = asyncio.BaseTransport(extra={"socket": ours})
        before = send_buffer(transport)
        bound_send_buffer(transport)
        assert send_buffer(transport) == before


def test_a_connection_that_is_gone_is_no_trouble() -> None:
    gone = socket.socket()
    gone.close()
    bound_send_buffer(asyncio.BaseTransport(extra={"socket": gone}))
    assert gone.fileno() == -1
