"""The operator's ports under a flood: bounded as those of clients are, and a probe gets its answer all the while."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.cache.serving import eventually
from tests.fakes.client import WITHIN, NodeClient
from tests.fakes.proxy import ProxyUnderTest, metric, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.security.raw import Connection, connected, until_end
from tests.security.smuggling import request

pytestmark = [pytest.mark.security, pytest.mark.slow]

PROBE, OTHER = "127.0.0.2", "127.0.0.3"
MOST = 128
"""Connections to one of the ports."""
PAGES = 16
"""Pages that one of the ports makes and sends at one time."""
REFUSED = "scope_proxy_admin_connections_refused_total"
PORTS: dict[str, Callable[[ProxyUnderTest], NodeClient | None]] = {
    "admin": lambda proxy: proxy.admin,
    "metrics": lambda proxy: proxy.metrics,
}
HALF = request(start="GET /metrics HTTP/1.1")[:-2]
METRICS = request(start="GET /metrics HTTP/1.1")
LONG = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 8000) for number in range(100))


class Port:
    """One of the operator's ports."""

    def __init__(self, node: NodeClient, stack: AsyncExitStack) -> None:
        self._node = node
        self._stack = stack

    async def connect(self, data: bytes = b"", source: str = PROBE, *, reads: bool = True) -> Connection:
        """A connection on which this has been sent; without `reads` nothing is read until it is resumed."""
        made = await self._stack.enter_async_context(connected(self._node.at(source), receive_buffer=4096))
        if not reads:
            reading(made[1]).pause_reading()
        made[1].write(data)
        return made

    async def get(self, path: str, source: str = PROBE) -> int:
        """The status of a request on a new connection; 0 where that is closed instead."""
        return await status(await self.connect(request("Connection: close", start=f"GET {path} HTTP/1.1"), source))


def reading(writer: asyncio.StreamWriter) -> asyncio.Transport:
    """The transport of a connection, where reading can be paused."""
    assert isinstance(writer.transport, asyncio.Transport)
    return writer.transport


async def status(connection: Connection) -> int:
    """The status of the next answer, whose body is not read; 0 where the connection ends first."""
    try:
        async with asyncio.timeout(WITHIN):
            line = await connection[0].readuntil(b"\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    return int(line.split()[1])


@pytest.fixture(params=PORTS)
async def port(request: pytest.FixtureRequest, plain: ScriptedRegistry) -> AsyncIterator[Port]:
    async with opened(plain, request.param) as found:
        yield found


@asynccontextmanager
async def opened(registry: ScriptedRegistry, name: str, **more: Any) -> AsyncIterator[Port]:
    addresses = {"address": "127.0.0.1:0", "metricsAddress": "127.0.0.1:0"}
    async with started(settings([registry.url], admin=addresses, **more)) as proxy, AsyncExitStack() as stack:
        node = PORTS[name](proxy)
        assert node is not None
        yield Port(node, stack)


FLOODS: dict[str, bytes] = {
    "idle": b"",
    "half requests": HALF,
    "kept": request(start="GET /healthz HTTP/1.1"),
    "unread": request(start="GET /metrics HTTP/1.1"),
    "not found": request(start="GET /nothing HTTP/1.1"),
    "no requests": b"\x16\x03\x01\x02\x00",
}


@pytest.mark.parametrize("what", FLOODS)
async def test_connections_are_bounded_and_a_probe_of_the_same_address_is_answered(port: Port, what: str) -> None:
    flood = []
    for _ in range(6):
        flood += [await port.connect(FLOODS[what]) for _ in range(50)]
        for path in ("/healthz", "/readyz"):
            assert await port.get(path) == 200
    ends = [asyncio.get_running_loop().create_task(until_end(reader)) for reader, _ in flood]
    try:
        await eventually(lambda: sum(end.done() for end in ends) >= len(flood) - MOST)
    finally:
        for end in ends:
            end.cancel()


async def test_half_requests_beyond_the_bound_are_not_answered_when_they_end(port: Port) -> None:
    flood = [await port.connect(HALF) for _ in range(300)]
    assert await port.get("/healthz") == 200
    for _, writer in flood:
        writer.write(b"\r\n")
    found = [await status(connection) for connection in flood]
    assert found.count(200) <= MOST
    assert set(found) <= {0, 200, 503}  # pages that are made at one time have their own bound
    assert 200 in found


async def test_a_head_that_is_too_long_is_not_answered(port: Port) -> None:
    connection = await port.connect(HALF)
    for start in range(0, len(LONG), 8000):
        connection[1].write(LONG[start : start + 8000])
        await asyncio.sleep(0)
    connection[1].write(b"\r\n")
    assert await status(connection) in {431, 0}  # 0: what it went on sending drove the answer out


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("data", [b"", HALF, request(start="GET /healthz HTTP/1.1") + HALF], ids=repr)
async def test_a_request_has_as_long_as_at_the_ports_of_clients(
    plain: ScriptedRegistry, name: str, data: bytes
) -> None:
    before = metric(REFUSED, reason="slow")
    async with opened(plain, name, timeouts={"request": "200ms"}) as port:
        connection = await port.connect(data)
        if data.startswith(b"GET /healthz"):
            assert await status(connection) == 200
        later = await port.connect(data, OTHER)
        if data.startswith(b"GET /healthz"):
            assert await status(later) == 200
        async with asyncio.timeout(WITHIN):
            for reader, _ in (connection, later):
                assert b"HTTP/1.1 " not in await until_end(reader)
    assert metric(REFUSED, reason="slow") == before + 2


async def test_heads_together_have_a_bound_and_cost_whoever_sends_the_most(port: Port) -> None:
    before = metric(REFUSED, reason="heads")
    probe = await port.connect(request(start="GET /healthz HTTP/1.1")[:-2], OTHER)
    flood = [await port.connect(HALF + LONG[:30_000]) for _ in range(100)]
    await eventually(lambda: metric(REFUSED, reason="heads") > before)
    assert await status(flood[0]) == 0
    probe[1].write(b"\r\n")
    assert await status(probe) == 200


@pytest.mark.parametrize("name", PORTS)
async def test_pages_are_made_for_so_many_at_one_time_and_for_who_has_none(plain: ScriptedRegistry, name: str) -> None:
    many = {f"{number}.example": {"endpoints": [plain.url]} for number in range(40)}
    async with opened(plain, name, registries=many) as port:  # a page is larger than what waits unread
        pages = [await port.connect(METRICS, reads=False) for _ in range(100)]
        assert await port.get("/metrics") == 503
        assert await port.get("/metrics", OTHER) == 200
        assert await port.get("/healthz") == 200
        for _, writer in pages:
            reading(writer).resume_reading()
        found = [await status(connection) for connection in pages]
    assert found.count(200) == PAGES
    assert found.count(503) == len(pages) - PAGES


@pytest.mark.parametrize(
    "head",
    [
        request("Content-Length: 5", start="POST /metrics HTTP/1.1", body=b"a=b&c"),
        request("Content-Length: 100000", start="GET /metrics HTTP/1.1", body=b"a" * 1000),
        request("Transfer-Encoding: chunked", start="GET /healthz HTTP/1.1", body=b"5\r\nabcde\r\n"),
        request("Upgrade: websocket", "Connection: Upgrade", start="GET /metrics HTTP/1.1"),
        request(start="GET http://proxy.example/healthz HTTP/1.1"),
        request(start="GET /healthz HTTP/3.0"),
        b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
    ],
    ids=lambda head: head.split(b"\r\n")[0].decode(),
)
async def test_what_is_no_plain_request_is_answered_once_at_the_most(port: Port, head: bytes) -> None:
    reader, _ = await port.connect(head + request(start="GET /healthz HTTP/1.1"))
    async with asyncio.timeout(WITHIN):
        assert (await until_end(reader)).count(b"HTTP/1.1 ") == 1
