"""Clients that go away in the middle: normal, and they leave nothing behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.testbed.images import Image
from proxy.testbed.record import Kind
from proxy.testbed.tokens import Rules
from tests.cache.serving import eventually
from tests.fakes.blobs import MIB, Generated
from tests.fakes.canaries import Written
from tests.fakes.client import WITHIN, NodeClient, read_answer, read_head
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, UPSTREAM, blob, manifest, metric, settings, started
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(24 * MIB, seed=9)


@pytest.fixture
async def registry(image: Image) -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry([image], Rules(dialect="none")) as server:
        yield server


@pytest.fixture
async def node(registry: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A proxy that opens two connections to the host, one of them for blobs."""
    async with started(settings([registry.url], host={"maxConnections": 2})) as proxy:
        yield proxy.node


def aborted(reason: str) -> float:
    return metric("scope_proxy_http_aborted_total", reason=reason)


def requests(route: str, code: str) -> float:
    return metric("scope_proxy_http_requests_total", route=route, code=code)


async def leave_in_the_middle(node: NodeClient, target: str) -> None:
    async with node.opened("GET", target) as (reader, writer):
        status, _, _ = await read_head(reader)
        assert status in {200, 206}
        assert await reader.readexactly(MIB)
        writer.transport.abort()


async def test_who_leaves_in_the_middle_frees_the_place_and_the_connection(
    node: NodeClient, registry: ScriptedRegistry
) -> None:
    """There is one place for blobs: the next one gets it, or waits for ever."""
    digest = registry.add_blob(UPSTREAM, LARGE).digest
    before = metric("scope_proxy_http_aborted_total", reason="client_gone")
    async with asyncio.timeout(WITHIN):
        for _ in range(4):
            await leave_in_the_middle(node, blob(digest))
        got = await node.get(blob(digest), keep_body=False)
    assert (got.status, got.sha256) == (200, digest)
    assert len({entry.connection for entry in registry.record.of("blob")}) == 5  # a body cut short costs its connection
    assert metric("scope_proxy_http_aborted_total", reason="client_gone") == before + 4


async def test_who_leaves_before_the_headers_frees_the_place(node: NodeClient, registry: ScriptedRegistry) -> None:
    digest = registry.add_blob(UPSTREAM, LARGE).digest
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on("GET", "blob").nth(1), Stall(BEFORE_HEADERS, until, reached))
    async with asyncio.timeout(WITHIN):
        async with node.opened("GET", blob(digest)) as (_, writer):
            await reached.wait()
            writer.transport.abort()
        got = await node.get(blob(digest), keep_body=False)
    assert got.sha256 == digest
    until.set()


@pytest.mark.parametrize("kind", ["manifest", "blob", "tags"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_leaves_while_waiting_is_counted_as_one_who_has_left(
    node: NodeClient, registry: ScriptedRegistry, logs: Written, kind: Kind, method: str
) -> None:
    digest = registry.add_blob(UPSTREAM, LARGE).digest
    target = {"manifest": manifest(), "blob": blob(digest), "tags": f"/v2/{NAME}/tags/list?ns={REG}"}[kind]
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on(kind=kind), Stall(BEFORE_HEADERS, until, reached))
    before = aborted("client_gone"), requests(kind, "499"), requests(kind, "0")
    async with asyncio.timeout(WITHIN), node.opened(method, target) as (_, writer):
        await reached.wait()
        writer.transport.abort()
        await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route=kind) == 0)
    after = aborted("client_gone"), requests(kind, "499"), requests(kind, "0")
    assert after == (before[0] + 1, before[1] + 1, before[2])
    [line] = [line for line in logs.lines if "'aborted'" in line]
    assert ("'status': 499" in line, "'aborted': 'client_gone'" in line) == (True, True)
    until.set()


async def test_who_leaves_while_waiting_for_a_place_leaves_the_queue(
    node: NodeClient, registry: ScriptedRegistry
) -> None:
    digest = registry.add_blob(UPSTREAM, LARGE).digest
    async with asyncio.timeout(WITHIN), node.opened("GET", blob(digest)) as (reader, _):
        assert (await read_head(reader))[0] == 200
        for _ in range(3):
            async with node.opened("GET", blob(digest)) as (_, waiting):
                waiting.transport.abort()
        assert (await node.get(manifest())).status == 200  # small ones have a place of their own
        rest = await reader.readexactly(LARGE.size)
        assert len(rest) == LARGE.size
    assert (await node.get(blob(digest), keep_body=False)).sha256 == digest


async def test_parallel_ranges_that_take_a_part_and_leave(node: NodeClient, registry: ScriptedRegistry) -> None:
    """containerd 2.1 asks for open-ended ranges and closes each connection when it has its share."""
    digest = registry.add_blob(UPSTREAM, LARGE).digest
    share = 8 * MIB
    found: list[bytes] = []
    async with asyncio.timeout(WITHIN):
        for start in range(0, LARGE.size, share):
            async with node.opened("GET", blob(digest), ("Range", f"bytes={start}-")) as (reader, _):
                status, _, lines = await read_head(reader)
                assert (status, dict(lines)["Content-Range"]) == (206, f"bytes {start}-{LARGE.size - 1}/{LARGE.size}")
                found.append(await reader.readexactly(share))
    assert b"".join(found) == b"".join(LARGE.pieces(0, LARGE.size))


async def test_a_client_that_leaves_stops_no_token_that_others_wait_for(image: Image) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    async with ScriptedRegistry([image]) as registry, started(settings([registry.url])) as proxy:
        registry.script(on(kind="token"), Stall(BEFORE_HEADERS, until, reached))
        async with asyncio.timeout(WITHIN), proxy.node.opened("GET", manifest()) as (reader, _):
            async with proxy.node.opened("GET", manifest()) as (_, first):
                await reached.wait()
                first.transport.abort()
            until.set()
            assert (await read_answer(reader, "GET")).body == image.manifest
        assert len(registry.record.tokens) == 1
