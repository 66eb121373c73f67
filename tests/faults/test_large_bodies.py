"""What moves little does not wait behind the bodies of blobs, which have three quarters of a host's connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Reply
from tests.fakes.client import WITHIN, NodeClient, read_head
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.proxy import REG, UPSTREAM, blob, manifest, metric, settings, started
from tests.fakes.registry import ScriptedRegistry

pytestmark = [pytest.mark.usefixtures("with_and_without_cache"), pytest.mark.slow]

CONNECTIONS = 4
LARGE = [Generated(12 * MIB, seed=220 + number) for number in range(CONNECTIONS - 1)]
OTHER = Generated(9 * MIB, seed=230)


@asynccontextmanager
async def front(plain: ScriptedRegistry, budget: str) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy that opens four connections to the registry, three of them for bodies of blobs."""
    budgets = {"blob": budget, "manifest": "30s"}
    async with started(settings([plain.url], host={"maxConnections": CONNECTIONS}, timeouts=budgets)) as proxy:
        yield proxy.node


@pytest.fixture
async def near(plain: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node whose requests have all the time that they need."""
    async with front(plain, "30s") as node:
        yield node


@asynccontextmanager
async def slow_downloads(node: NodeClient, registry: ScriptedRegistry) -> AsyncIterator[None]:
    """As many as there are connections for bodies; none of them ends within the block."""
    until = asyncio.Event()
    digests = [registry.add_blob(UPSTREAM, content).digest for content in LARGE]
    for digest in digests:
        registry.script(on("GET", "blob", reference=digest), Stall(10 * MIB, until))
    async with AsyncExitStack() as stack:
        for digest in digests:
            reader, _ = await stack.enter_async_context(node.opened("GET", blob(digest)))
            async with asyncio.timeout(WITHIN):
                assert (await read_head(reader))[0] == 200
        yield
        until.set()


async def test_the_size_of_a_blob_does_not_wait_behind_downloads(near: NodeClient, plain: ScriptedRegistry) -> None:
    digest = plain.add_blob(UPSTREAM, OTHER).digest
    async with slow_downloads(near, plain):
        got = await near.head(blob(digest))
        assert (got.status, got.header("Content-Length")) == (200, str(OTHER.size))
        assert (await near.get(manifest())).status == 200


async def test_nor_does_it_where_a_server_knows_no_head(near: NodeClient, plain: ScriptedRegistry) -> None:
    """One byte is requested instead."""
    digest = plain.add_blob(UPSTREAM, OTHER).digest
    plain.script(on("HEAD", "blob"), Reply(405))
    async with slow_downloads(near, plain):
        for _ in range(2 * CONNECTIONS):
            got = await near.head(blob(digest))
            assert (got.status, got.header("Content-Length")) == (200, str(OTHER.size))
        assert metric("scope_proxy_upstream_in_flight", upstream=REG) == len(LARGE)
        assert (await near.get(manifest())).status == 200


async def test_the_bodies_of_blobs_leave_a_place_for_what_is_small(plain: ScriptedRegistry) -> None:
    digest = plain.add_blob(UPSTREAM, OTHER).digest
    async with front(plain, "3s") as node:
        async with slow_downloads(node, plain):
            assert (await node.get(blob(digest))).status in {503, 504}
            assert (await node.get(manifest())).status == 200
        assert (await node.get(blob(digest), keep_body=False)).sha256 == digest
