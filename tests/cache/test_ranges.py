"""Ranges of what is stored, what is being downloaded, and what nobody has requested yet."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cache.serving import BLOB, cached, reading, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import DropHeader
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.proxy import AT_ONCE, UPSTREAM, blob
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(8 * MIB + 3, seed=41)
SMALL = Generated(200_003, seed=42)
SHARE = 2 * MIB


@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("when", ["miss", "join", "hit"])
@pytest.mark.parametrize(
    ("wanted_range", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, -1),
        ("bytes=40-100059", 40, 100059),
        ("bytes=100000-", 100_000, -1),
        ("bytes=-20", -20, -1),
        ("bytes=50-99999999999", 50, -1),
    ],
)
async def test_a_range_is_exact(
    node: NodeClient, plain: ScriptedRegistry, content: Generated, when: str, wanted_range: str, first: int, last: int
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    start, end = first % content.size, last % content.size
    until, reached = asyncio.Event(), asyncio.Event()
    plain.script(BLOB, Stall(content.size // 3, until, reached))
    async with asyncio.TaskGroup() as tasks:
        if when != "miss":
            before = tasks.create_task(node.get(blob(digest)))
            await reached.wait()
            if when == "hit":
                until.set()
                await before
        request = tasks.create_task(node.get(blob(digest), ("Range", wanted_range)))
        await reached.wait()
        until.set()
    got = request.result()
    assert (got.status, got.whole, way(got)) == (206, True, when)
    assert got.header("Content-Range") == f"bytes {start}-{end}/{content.size}"
    assert got.body == whole(content)[start : end + 1]
    assert [entry.headers.get("range") for entry in plain.record.of("blob")] == [None]


async def test_parallel_open_ended_ranges_of_a_cold_blob_cost_one_download(
    node: NodeClient, plain: ScriptedRegistry
) -> None:
    """As containerd 2.1 asks: each connection takes its share and is closed."""
    digest = plain.add_blob(UPSTREAM, LARGE).digest

    async def take(start: int) -> bytes:
        size = min(SHARE, LARGE.size - start)
        async with reading(node, blob(digest), size, ("Range", f"bytes={start}-")) as (data, _, _):
            return data

    async with asyncio.TaskGroup() as tasks:
        parts = [tasks.create_task(take(start)) for start in range(0, LARGE.size, SHARE)]
    assert b"".join(part.result() for part in parts) == whole(LARGE)
    assert [entry.headers.get("range") for entry in plain.record.of("blob")] == [None]


async def test_a_range_far_ahead_of_the_writer_is_fetched_by_itself(plain: ScriptedRegistry, directory: Path) -> None:
    tuning = replace(AT_ONCE, far_ahead=2 * MIB)
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB.nth(1), Stall(MIB, until))
    async with (
        cached([plain.url], directory, tuning=tuning) as node,
        reading(node, blob(digest), MIB) as (beginning, reader, _),
    ):
        got = await node.get(blob(digest), ("Range", f"bytes={6 * MIB}-{6 * MIB + 999}"))
        assert (got.status, way(got)) == (206, "bypass")
        assert got.body == whole(LARGE)[6 * MIB : 6 * MIB + 1000]
        until.set()
        assert beginning + await reader.readexactly(LARGE.size - MIB) == whole(LARGE)
    wanted_range = [entry.headers.get("range") for entry in plain.record.of("blob")]
    assert wanted_range == [None, f"bytes={6 * MIB}-{6 * MIB + 999}"]


@pytest.mark.parametrize("when", ["miss", "hit"])
async def test_a_range_beyond_the_end_is_416(node: NodeClient, plain: ScriptedRegistry, when: str) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    if when == "hit":
        await node.get(blob(digest), keep_body=False)
    got = await node.get(blob(digest), ("Range", f"bytes={LARGE.size}-"))
    assert (got.status, got.code, got.header("Content-Range")) == (416, "RANGE_INVALID", f"bytes */{LARGE.size}")


async def test_a_range_of_a_large_blob_without_length_is_the_whole_until_it_is_stored(
    node: NodeClient, plain: ScriptedRegistry
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB, DropHeader("Content-Length"))
    cold = await node.get(blob(digest), ("Range", "bytes=5-9"))
    assert (cold.status, cold.whole, cold.sha256) == (200, True, digest)
    stored = await node.get(blob(digest), ("Range", "bytes=5-9"))
    assert (stored.status, stored.body) == (206, whole(LARGE)[5:10])
