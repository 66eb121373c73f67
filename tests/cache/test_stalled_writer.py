"""A worker that holds the lease of a digest and does nothing: stopped, or waiting for a disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.layout import Layout
from proxy.store.lease import Lease
from tests.cache.serving import cached, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import WITHIN, Got, NodeClient
from tests.fakes.proxy import UPSTREAM, blob
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.slow

LARGE = Generated(8 * MIB + 9, seed=111)
SMALL = Generated(200_009, seed=112)
TIMES = {"stall": "300ms", "blob": "3s"}


def take(directory: Path, digest: str, content: Generated | None) -> Lease:
    """Take the lease of a digest as a worker does; with some content half of it is written."""
    layout, parsed = Layout(directory), Digest.parse(digest)
    lease = Lease.take(layout.lock(parsed))
    assert lease is not None
    layout.part(parsed).write_bytes(b"" if content is None else whole(content)[: content.size // 2])
    if content is not None:
        lease.report_size(content.size)
    return lease


@asynccontextmanager
async def held(directory: Path, digest: str, content: Generated | None = None) -> AsyncIterator[None]:
    """Hold the lease of a digest, and do nothing."""
    lease = await asyncio.to_thread(take, directory, digest, content)
    try:
        yield
    finally:
        await asyncio.to_thread(Layout(directory).part(Digest.parse(digest)).unlink, missing_ok=True)
        await asyncio.to_thread(lease.release)


@asynccontextmanager
async def behind(plain: ScriptedRegistry, directory: Path) -> AsyncIterator[NodeClient]:
    async with cached([plain.url], directory, timeouts=TIMES) as node:
        yield node


async def answer(node: NodeClient, digest: str) -> Got | None:
    """The whole answer, or None where it does not end."""
    try:
        async with asyncio.timeout(WITHIN):
            return await node.get(blob(digest))
    except TimeoutError:
        return None


@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("has_begun", [True, False], ids=["begun", "not begun"])
async def test_a_worker_that_does_nothing_blocks_no_pull(
    plain: ScriptedRegistry, directory: Path, content: Generated, has_begun: bool
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    async with behind(plain, directory) as node, held(directory, digest, content if has_begun else None):
        for _ in range(2):
            got = await answer(node, digest)
            assert got is not None, "the pull hangs"
            assert (got.status, got.whole, got.sha256) == (200, True, digest)


async def test_once_it_has_let_go_its_digest_is_stored_again(plain: ScriptedRegistry, directory: Path) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with behind(plain, directory) as node:
        async with held(directory, digest, LARGE):
            await answer(node, digest)
        await answer(node, digest)
        got = await answer(node, digest)
        assert got is not None
        assert (got.sha256, got.header("X-Cache")) == (digest, "hit")
