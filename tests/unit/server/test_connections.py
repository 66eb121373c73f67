import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import Counter

from proxy.server.listener.connection import ConnectionBounds, NodeHandler, NodeServer
from proxy.server.listener.framing import NodeRequest
from proxy.server.listener.limits import ConnectionLimit, PendingBytes
from tests.cache.serving import eventually

BODY = bytes(8 * 1024 * 1024)
"""More than the system holds for a client that does not read."""
REFUSED = Counter("test_connections_refused", "Refused connections.", ["reason"], registry=None)
WITHIN = 20.0
REQUEST = b"GET /v2/ HTTP/1.1\r\nHost: node\r\n\r\n"
SMALL = b"GET /small HTTP/1.1\r\nHost: node\r\n\r\n"


class ClosesEarly:
    """Closes the connection behind an answer that nobody has read yet, and is still busy with the request."""

    def __init__(self) -> None:
        self.has_written = asyncio.Event()
        self.has_ended = asyncio.Event()

    async def respond(self, request: NodeRequest) -> web.StreamResponse:
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


class SendsFile:
    """Sends a file as stored blobs are sent; at `/small` a few bytes of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def respond(self, request: NodeRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 2 if request.path == "/small" else len(BODY)
        await response.prepare(request)
        if request.path == "/small":
            await response.write(b"ok")
        else:
            assert request.transport is not None
            with self.path.open("rb") as file:
                await asyncio.get_running_loop().sendfile(request.transport, file, fallback=False)
        await response.write_eof()
        return response

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        raise NotImplementedError


Errors = list[dict[str, Any]]


def cut() -> float:
    """Connections that were cut for their incomplete requests."""
    [metric] = REFUSED.collect()
    return sum(
        sample.value for sample in metric.samples if sample.labels == {"reason": "heads"} and "_total" in sample.name
    )


@asynccontextmanager
async def served(handler: NodeHandler, unanswered: int = 1 << 20) -> AsyncIterator[tuple[Any, Errors]]:
    """The address of a server, and what fails in its event loop."""
    loop, errors = asyncio.get_running_loop(), Errors()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    bounds = ConnectionBounds(ConnectionLimit(10, 1, 100), PendingBytes(unanswered), 65536, WITHIN, WITHIN, REFUSED)
    server = NodeServer(handler, bounds)
    listening = await loop.create_server(lambda: server.connection("127.0.0.1"), "127.0.0.1", 0)
    async with listening, asyncio.timeout(WITHIN):
        yield listening.sockets[0].getsockname(), errors
    await server.shutdown(WITHIN)


async def test_a_connection_that_ends_once_all_is_read_is_lost_once() -> None:
    handler = ClosesEarly()
    async with served(handler) as (address, errors):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST)
        await handler.has_written.wait()
        received = await reader.read(-1)
        await handler.has_ended.wait()
        writer.close()
        for _ in range(3):  # what the loss has put off
            await asyncio.sleep(0)
    assert len(received) == len(BODY)
    assert [str(context.get("exception")) for context in errors] == []


async def test_one_that_is_cut_while_the_kernel_sends_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(BODY)
    writers, answers, before = [], [], cut()
    async with served(SendsFile(tmp_path / "blob"), unanswered=16 * 1024) as (address, errors):
        reader, writer = await asyncio.open_connection(*address)
        writers.append(writer)
        writer.write(REQUEST + SMALL + b"GET /")  # what is behind the first one counts as unanswered
        await reader.readuntil(b"\r\n\r\n")
        _, flood = await asyncio.open_connection(*address)
        writers.append(flood)
        flood.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 7500)
        await eventually(lambda: cut() == before + 1)
        for _ in range(4):  # one of them gets the descriptor of the one that was cut
            reader, writer = await asyncio.open_connection(*address)
            writers.append(writer)
            writer.write(SMALL)
            answers.append(await reader.readuntil(b"\r\n\r\nok"))
        for writer in writers:
            writer.close()
    assert len(answers) == 4
    assert [str(context.get("exception")) for context in errors] == []
