"""The fake's faults in the sending, seen on a bare connection or by a plain client."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import DropHeader, FlipByte, Reply
from tests.fakes.interrupts import AFTER_END, AT_END, BEFORE_HEADERS, Cut, Extra, Interrupt, Raw, Stall
from tests.fakes.matching import on
from tests.fakes.registry import ScriptedRegistry
from tests.unit.testbed.support import REPOSITORY, WAIT, raw_get

DATA = bytes(range(100))
BLOB = "sha256:data"
PATH = f"/v2/{REPOSITORY}/blobs/{BLOB}"


@pytest.fixture
async def registry() -> AsyncIterator[ScriptedRegistry]:
    holder = Image(REPOSITORY, "1", b"{}", "application/json", "sha256:0", {BLOB: DATA})
    async with ScriptedRegistry([holder], Rules(dialect="none")) as running:
        yield running


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Cut(BEFORE_HEADERS), 0, None),
        (Cut(0), 200, b""),
        (Cut(40), 200, DATA[:40]),
        (Cut(AT_END), 200, DATA),
        (Cut(AFTER_END), 200, DATA),
        (Extra(b"more", AT_END), 200, DATA + b"more"),
    ],
)
async def test_cuts_and_extra_bytes(
    registry: ScriptedRegistry, fault: Interrupt, status: int, body: bytes | None
) -> None:
    registry.script(on(), fault)
    received = await raw_get(f"{registry.url}{PATH}", "Connection: close")
    head, _, rest = received.partition(b"\r\n\r\n")
    assert registry.record.all()[0].status == status
    if body is None:
        assert received == b""
    else:
        assert b"Content-Length: 100" in head
        assert rest == body


@pytest.mark.parametrize(("fault", "whole"), [(Cut(40), False), (Cut(AT_END), False), (Cut(AFTER_END), True)])
async def test_a_chunked_body_is_cut_before_its_last_chunk(registry: ScriptedRegistry, fault: Cut, whole: bool) -> None:
    registry.script(on(), DropHeader("Content-Length"), fault)
    received = await raw_get(f"{registry.url}{PATH}")
    assert b"Transfer-Encoding: chunked" in received
    assert received.endswith(b"0\r\n\r\n") == whole


async def test_a_reset_is_seen_as_such(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    registry.script(on(), Cut(BEFORE_HEADERS, reset=True))
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.get(f"{registry.url}{PATH}")


async def test_an_answer_stalls_until_it_may_go_on(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on(), Stall(40, until, reached))
    async with asyncio.timeout(WAIT), client.get(f"{registry.url}{PATH}") as response:
        assert await response.content.readexactly(40) == DATA[:40]
        await reached.wait()
        until.set()
        assert await response.read() == DATA[40:]


async def test_the_headers_stall(registry: ScriptedRegistry) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on(), Stall(BEFORE_HEADERS, until, reached))
    async with asyncio.timeout(WAIT), asyncio.TaskGroup() as tasks:
        request = tasks.create_task(raw_get(f"{registry.url}{PATH}", "Connection: close"))
        await reached.wait()
        assert not request.done()
        until.set()
    assert request.result().endswith(DATA)


async def test_several_faults_work_together(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on(), FlipByte("first"), Stall(10, until, reached), Cut(20))
    async with asyncio.timeout(WAIT), client.get(f"{registry.url}{PATH}") as response:
        assert await response.content.readexactly(10) == b"\xff" + DATA[1:10]
        await reached.wait()
        until.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_stopping_the_server_ends_a_stalled_answer(client: aiohttp.ClientSession) -> None:
    never, reached = asyncio.Event(), asyncio.Event()
    async with ScriptedRegistry((), Rules(dialect="none")) as registry, asyncio.TaskGroup() as tasks:
        registry.script(on(), Stall(BEFORE_HEADERS, never, reached))
        request = tasks.create_task(_fails(client, f"{registry.url}{PATH}"))
        await reached.wait()
        await registry.__aexit__(None, None, None)
    assert request.result()


async def _fails(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url):
            return False
    except aiohttp.ClientConnectionError:
        return True


async def test_a_connection_closed_at_reuse(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    entry = registry.script(on("GET").reused().times(1), Cut(BEFORE_HEADERS))
    for _ in range(2):
        async with client.get(f"{registry.url}{PATH}") as response:
            assert await response.read() == DATA
    assert entry.fired == 1
    assert [one.status for one in registry.record.all()] == [200, 0, 200]  # the client tried anew by itself


async def test_raw_bytes_come_in_steps(registry: ScriptedRegistry) -> None:
    gate = asyncio.Event()
    gate.set()
    registry.script(on(), Raw((b"HTTP/1.1 103 Early Hints\r\n\r\n", gate, b"HTTP/1.1 200 OK\r\nLocation: \r\n\r\n")))
    received = await raw_get(f"{registry.url}{PATH}")
    assert received == b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nLocation: \r\n\r\n"


async def test_a_large_body_is_cut_at_the_very_byte(registry: ScriptedRegistry) -> None:
    layer = registry.add_blob(REPOSITORY, Generated(4 * MIB))
    registry.script(on(reference=layer.digest), Cut(3 * MIB + 1))
    received = await raw_get(f"{registry.url}/v2/{REPOSITORY}/blobs/{layer.digest}")
    assert len(received.partition(b"\r\n\r\n")[2]) == 3 * MIB + 1


async def test_the_record_can_be_waited_for(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    registry.script(on("HEAD"), Reply(403))
    async with asyncio.timeout(WAIT), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(registry.record.wait(2, "blob", "GET"))
        for method in ("GET", "HEAD", "GET"):
            async with client.request(method, f"{registry.url}{PATH}"):
                pass
    assert len(waiting.result()) == 2
