"""Two proxies on one directory, as two workers have it: one of them downloads, the other one reads behind it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.layout import Layout
from proxy.store.lease import Lease
from tests.cache.serving import BLOB, cached, eventually, reading, rest_of, unfinished, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import DropHeader, FlipByte
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.proxy import UPSTREAM, blob, metric
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(8 * MIB + 9, seed=101)
SMALL = Generated(200_009, seed=102)

Stopping = tuple[NodeClient, Callable[[], Awaitable[None]]]
"""The node that follows, and what stops the writer."""


@pytest.mark.parametrize("has_length", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "small"])
async def test_one_download_serves_the_clients_of_both(
    plain: ScriptedRegistry, directory: Path, content: Generated, has_length: bool
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    until, reached = asyncio.Event(), asyncio.Event()
    changes = () if has_length else (DropHeader("Content-Length"),)
    plain.script(BLOB, *changes, Stall(content.size // 2, until, reached))
    async with (
        cached([plain.url], directory) as one,
        cached([plain.url], directory) as other,
        asyncio.TaskGroup() as tasks,
    ):
        pulls = [tasks.create_task(one.get(blob(digest), keep_body=False))]
        await reached.wait()
        pulls += [tasks.create_task(node.get(blob(digest), keep_body=False)) for node in (one, other) * 4]
        await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route="blob") == len(pulls))
        until.set()
    assert {(pull.result().status, pull.result().whole, pull.result().sha256) for pull in pulls} == {
        (200, True, digest)
    }
    assert len(plain.record.of("blob", "GET")) == 1
    assert not unfinished(directory)


async def test_the_follower_has_bytes_before_the_writer_has_all(plain: ScriptedRegistry, directory: Path) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB, Stall(3 * MIB, until))
    async with (
        cached([plain.url], directory) as one,
        cached([plain.url], directory) as other,
        reading(one, blob(digest), 3 * MIB),
        reading(other, blob(digest), 3 * MIB) as (beginning, reader, _),
    ):
        until.set()
        assert beginning + await reader.readexactly(LARGE.size - 3 * MIB) == whole(LARGE)


@asynccontextmanager
async def stopping_writer(plain: ScriptedRegistry, directory: Path, digest: str) -> AsyncIterator[Stopping]:
    """A proxy that stops in the middle of its download, and a node that requests the same blob meanwhile."""
    until = asyncio.Event()
    plain.script(BLOB.nth(1), Stall(3 * MIB, until))
    async with cached([plain.url], directory) as other, AsyncExitStack() as stack:
        one = await stack.enter_async_context(cached([plain.url], directory))
        _, _, client = await stack.enter_async_context(reading(one, blob(digest), MIB))

        async def stop() -> None:
            client.transport.abort()
            await stack.aclose()

        yield other, stop
    until.set()


async def test_when_the_writer_stops_the_follower_takes_over(plain: ScriptedRegistry, directory: Path) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with stopping_writer(plain, directory, digest) as (other, stop):
        async with reading(other, blob(digest), 2 * MIB) as (beginning, reader, _):
            await stop()
            assert beginning + await reader.readexactly(LARGE.size - 2 * MIB) == whole(LARGE)
        assert way(await other.get(blob(digest))) == "hit"
    assert not unfinished(directory)


def take_next(directory: Path, digest: str, is_over: threading.Event) -> Lease | None:
    """Take the lease of a digest as soon as it is free, and remove the part; None once `is_over` is set.

    Others then can neither write the digest nor follow its download, as if each of these had just ended.
    """
    layout, parsed = Layout(directory), Digest.parse(digest)
    while not is_over.is_set():
        lease = Lease.take(layout.lock(parsed))
        if lease is not None:
            layout.part(parsed).unlink(missing_ok=True)
            return lease
        time.sleep(0.001)
    return None


@asynccontextmanager
async def busy(directory: Path, digest: str) -> AsyncIterator[asyncio.Future[Lease | None]]:
    """Another process has the lease of a digest from its next release on; gives the lease."""
    is_over = threading.Event()
    lease = asyncio.get_running_loop().run_in_executor(None, take_next, directory, digest, is_over)
    try:
        yield lease
    finally:
        is_over.set()
        if (taken := await lease) is not None:
            await asyncio.to_thread(taken.release)


async def test_downloads_of_others_that_keep_ending_hold_up_nobody(plain: ScriptedRegistry, directory: Path) -> None:
    """Seen with two workers whose cache was ten times too small: one pull of 16,000 got a 503."""
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with cached([plain.url], directory) as node, busy(directory, digest) as lease:
        assert await lease is not None
        got = await node.get(blob(digest), keep_body=False)
        assert (got.status, got.sha256, way(got)) == (200, digest, "bypass")
        part = await node.get(blob(digest), ("Range", f"bytes={MIB}-"))
        assert (part.status, part.body) == (206, whole(LARGE)[MIB:])
        assert (await node.head(blob(digest))).header("Content-Length") == str(LARGE.size)


async def test_a_writer_that_stops_is_not_waited_for_again_and_again(plain: ScriptedRegistry, directory: Path) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with (
        stopping_writer(plain, directory, digest) as (other, stop),
        reading(other, blob(digest), 2 * MIB) as (beginning, reader, _),
        busy(directory, digest) as lease,
    ):
        await stop()
        assert await lease is not None
        assert beginning + await reader.readexactly(LARGE.size - 2 * MIB) == whole(LARGE)


@pytest.mark.parametrize("where", ["middle", "last"])
async def test_wrong_bytes_reach_the_followers_of_another_proxy_as_little(
    plain: ScriptedRegistry, directory: Path, where: str
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB.nth(1), FlipByte("middle" if where == "middle" else "last"), Stall(6 * MIB, until))
    async with (
        cached([plain.url], directory) as one,
        cached([plain.url], directory) as other,
        reading(one, blob(digest), 5 * MIB),
        reading(other, blob(digest), 5 * MIB) as (beginning, reader, _),
    ):
        until.set()
        if where == "last":
            assert beginning + await reader.readexactly(LARGE.size - 5 * MIB) == whole(LARGE)
        else:
            assert len(beginning + await rest_of(reader)) < LARGE.size
            assert (await other.get(blob(digest), ("Range", "bytes=9-"))).status == 503
        got = await other.get(blob(digest), keep_body=False)
        assert (got.whole, got.sha256) == (True, digest)
