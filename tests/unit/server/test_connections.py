import asyncio
from typing import Any

from aiohttp import web
from prometheus_client import Counter

from proxy.server.listener.connection import ConnectionBounds, NodeServer
from proxy.server.listener.framing import NodeRequest
from proxy.server.listener.limits import ConnectionLimit, UnansweredBytes

BODY = bytes(8 * 1024 * 1024)
"""More than the system holds for a client that does not read."""
REFUSED = Counter("test_connections_refused", "Refused connections.", ["reason"], registry=None)
WITHIN = 20.0


class ClosesEarly:
    """Closes the connection behind an answer that nobody has read yet, and is still busy with the request."""

    def __init__(self) -> None:
        self.has_written = asyncio.Event()
        self.has_ended = asyncio.Event()

    async def answer(self, request: NodeRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(BODY)
        request.transport.close()
        self.has_written.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.has_ended.set()
        raise AssertionError("nothing ends the wait but the loss of the connection")

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        raise NotImplementedError


async def test_a_connection_that_ends_once_all_is_read_is_lost_once() -> None:
    loop, errors = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    handler = ClosesEarly()
    bounds = ConnectionBounds(ConnectionLimit(10, 1), UnansweredBytes(1 << 20), 65536, WITHIN, WITHIN, REFUSED)
    server = NodeServer(handler, bounds)
    listening = await loop.create_server(lambda: server.connection("127.0.0.1"), "127.0.0.1", 0)
    async with listening, asyncio.timeout(WITHIN):
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(b"GET /v2/ HTTP/1.1\r\nHost: node\r\n\r\n")
        await handler.has_written.wait()
        received = await reader.read(-1)
        await handler.has_ended.wait()
        writer.close()
        for _ in range(3):  # what the loss has put off
            await asyncio.sleep(0)
    await server.shutdown(WITHIN)
    assert len(received) == len(BODY)
    assert [str(context.get("exception")) for context in errors] == []
