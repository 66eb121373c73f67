"""One digest in two registries: the one that is slow, or sends wrong bytes, is no trouble of the other's clients."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.tokens import Rules
from tests.cache.serving import BLOB, cached, reading, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Change, FlipByte
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Interrupt, Stall, trickle
from tests.fakes.proxy import REG, REWRITES, UPSTREAM, blob
from tests.fakes.registry import ScriptedRegistry

pytestmark = [pytest.mark.security, pytest.mark.slow]

OTHER = "other.example"
"""The registry that does wrong."""
LARGE = Generated(6 * MIB + 7, seed=91)
SMALL = Generated(500_009, seed=92)
SHARED: Mapping[str, Mapping[str, Any]] = {"shared": {}, "isolated": {"access": [{"action": "allow"}]}}
"""Where every client may pull everything, and where there are rules."""

Fault = Callable[[int, asyncio.Event, asyncio.Event], tuple[Change | Interrupt, ...]]
FAULTS: Mapping[str, Fault] = {
    "no-headers": lambda _, until, reached: (Stall(BEFORE_HEADERS, until, reached),),
    "no-bytes": lambda _, until, reached: (Stall(0, until, reached),),
    "stall": lambda size, until, reached: (Stall(size // 4, until, reached),),
    "trickle": lambda _, until, reached: (Stall(0, _set(until), reached), *trickle(1, until)),
    "trickle-later": lambda size, until, reached: (Stall(size // 4, _set(until), reached), *trickle(size // 4, until)),
    "wrong-and-slow": lambda size, until, reached: (FlipByte("first"), Stall(size // 4, until, reached)),
}


def _set(_: asyncio.Event) -> asyncio.Event:
    """An event that is set: who waits for it goes on at once."""
    made = asyncio.Event()
    made.set()
    return made


@asynccontextmanager
async def both(directory: Path, **more: Any) -> AsyncIterator[tuple[ScriptedRegistry, ScriptedRegistry, NodeClient]]:
    """The registry that is well, the one that is not, and a node."""
    async with (
        ScriptedRegistry([], Rules(dialect="none")) as good,
        ScriptedRegistry([], Rules(dialect="none")) as bad,
    ):
        registries = {
            name: {"endpoints": [server.url], "rewrites": list(REWRITES)}
            for name, server in ((REG, good), (OTHER, bad))
        }
        async with cached([good.url], directory, registries=registries, **more) as node:
            yield good, bad, node


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("mode", SHARED)
async def test_a_registry_that_is_slow_holds_up_no_client_of_another(
    tmp_path: Path, mode: str, content: Generated, fault: str
) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    async with both(tmp_path / "cache", **SHARED[mode]) as (good, bad, node):
        digest = bad.add_blob(UPSTREAM, content).digest
        good.add_blob(UPSTREAM, content)
        bad.script(BLOB, *FAULTS[fault](content.size, until, reached))
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(node.get(blob(digest, registry=OTHER), keep_body=False))
            await reached.wait()
            got = await node.get(blob(digest), keep_body=False)
            assert (got.status, got.whole, got.sha256) == (200, True, digest)
            assert not until.is_set()
            assert way(await node.get(blob(digest), keep_body=False)) == "hit"
            until.set()
            slow.cancel()
        assert len(good.record.of("blob", "GET")) == 1


@pytest.mark.parametrize("fault", ["stall", "trickle-later"])
@pytest.mark.parametrize("mode", SHARED)
async def test_its_client_is_told_the_size_by_its_own(tmp_path: Path, mode: str, fault: str) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    async with both(tmp_path / "cache", **SHARED[mode]) as (good, bad, node):
        digest = bad.add_blob(UPSTREAM, LARGE).digest
        good.add_blob(UPSTREAM, LARGE)
        bad.script(BLOB, *FAULTS[fault](LARGE.size, until, reached))
        async with reading(node, blob(digest, registry=OTHER), MIB):
            await reached.wait()
            got = await node.send("HEAD", blob(digest))
            assert (got.status, got.header("Content-Length")) == (200, str(LARGE.size))
            until.set()


@pytest.mark.parametrize("mode", SHARED)
async def test_nothing_of_another_registry_is_sent_before_it_is_verified(tmp_path: Path, mode: str) -> None:
    """Nor is its word on the size taken."""
    until, reached = asyncio.Event(), asyncio.Event()
    async with both(tmp_path / "cache", **SHARED[mode]) as (good, bad, node):
        digest = good.add_blob(UPSTREAM, LARGE).digest
        bad.library.repository(UPSTREAM).blobs[digest] = Generated(LARGE.size + 5, seed=93)
        bad.script(BLOB, Stall(5 * MIB, until, reached))
        async with reading(node, blob(digest, registry=OTHER), MIB), asyncio.TaskGroup() as tasks:
            await reached.wait()
            pulls = [tasks.create_task(node.get(blob(digest), keep_body=False)) for _ in range(3)]
            await good.record.wait(1, "blob")
            until.set()
        assert {(task.result().status, task.result().whole, task.result().sha256) for task in pulls} == {
            (200, True, digest)
        }
        assert len(good.record.of("blob", "GET")) == 1


async def test_where_content_is_shared_what_another_registry_sends_in_time_is_enough(tmp_path: Path) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    async with both(tmp_path / "cache") as (good, other, node):
        digest = good.add_blob(UPSTREAM, LARGE).digest
        other.add_blob(UPSTREAM, LARGE)
        other.script(BLOB, Stall(5 * MIB, until, reached))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(node.get(blob(digest, registry=OTHER), keep_body=False))
            await reached.wait()
            pull = tasks.create_task(node.get(blob(digest), keep_body=False))
            until.set()
        assert (pull.result().sha256, way(pull.result())) in {(digest, "join"), (digest, "hit")}
        assert not good.record.of("blob", "GET")


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("mode", SHARED)
async def test_wrong_bytes_of_one_registry_block_no_range_of_another(
    tmp_path: Path, mode: str, content: Generated, where: Any
) -> None:
    async with both(tmp_path / "cache", **SHARED[mode]) as (good, bad, node):
        digest = bad.add_blob(UPSTREAM, content).digest
        good.add_blob(UPSTREAM, content)
        bad.script(BLOB, FlipByte(where))
        for _ in range(2):
            got = await node.get(blob(digest, registry=OTHER))
            assert (got.status, got.whole) != (200, True)
        got = await node.get(blob(digest), ("Range", "bytes=1000-"))
        assert (got.status, got.body) == (206, whole(content)[1000:])
        got = await node.get(blob(digest), keep_body=False)
        assert (got.status, got.sha256) == (200, digest)


@pytest.mark.parametrize("mode", SHARED)
async def test_a_download_of_who_has_sent_wrong_bytes_is_joined_by_its_own_clients_alone(
    tmp_path: Path, mode: str
) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    async with both(tmp_path / "cache", **SHARED[mode]) as (good, bad, node):
        digest = bad.add_blob(UPSTREAM, LARGE).digest
        good.add_blob(UPSTREAM, LARGE)
        bad.script(BLOB.times(2), FlipByte("middle"))
        bad.script(BLOB.starting(3), Stall(5 * MIB, until, reached), FlipByte("middle"))
        got = await node.get(blob(digest, registry=OTHER), keep_body=False)
        assert not got.whole
        async with asyncio.TaskGroup() as tasks:
            again = tasks.create_task(node.get(blob(digest, registry=OTHER), keep_body=False))
            await reached.wait()
            got = await node.get(blob(digest), keep_body=False)
            assert (got.status, got.whole, got.sha256) == (200, True, digest)
            until.set()
        assert again.result().sha256 in {digest, None} or not again.result().whole
        assert len(good.record.of("blob", "GET")) == 1


async def test_a_slow_download_of_the_only_registry_is_left_by_nobody(tmp_path: Path) -> None:
    """Below the rate there is nothing better for its own clients: one download for all of them."""
    until, reached = asyncio.Event(), asyncio.Event()
    async with both(tmp_path / "cache") as (good, _, node):
        digest = good.add_blob(UPSTREAM, LARGE).digest
        good.script(BLOB, Stall(3 * MIB, _set(until), reached), *trickle(3 * MIB, until))
        async with reading(node, blob(digest), MIB), reading(node, blob(digest), MIB) as (beginning, reader, _):
            await reached.wait()
            asyncio.get_running_loop().call_later(4, until.set)  # twice as long as a rate is measured
            assert beginning + await reader.readexactly(LARGE.size - MIB) == whole(LARGE)
        assert len(good.record.of("blob", "GET")) == 1
