"""A large blob passes through without being held in memory."""

import asyncio
import gc
from pathlib import Path

import pytest

from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Cut
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.usefixtures("with_and_without_cache")

SIZE = 160 * MIB
ALLOWED = 64 * MIB
"""Growth of this process, which is the registry, the proxy and the node at once."""


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells memory by /proc")
@pytest.mark.parametrize("headers", [(), (("Range", "bytes=1-"),)], ids=["whole", "range"])
async def test_a_large_blob_takes_constant_memory(
    near_plain: NodeClient, plain: ScriptedRegistry, headers: tuple[tuple[str, str], ...]
) -> None:
    content = Generated(SIZE, seed=11)
    digest = plain.add_blob(UPSTREAM, content).digest
    plain.script(on("GET", "blob").nth(1), Cut(SIZE // 2))
    gc.collect()
    before, highest, done = resident(), 0, asyncio.Event()

    async def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, resident())
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        got = await near_plain.get(blob(digest), *headers, keep_body=False)
        done.set()
    assert got.whole
    assert got.size == SIZE - (1 if headers else 0)
    assert bool(headers) or got.sha256 == digest
    assert highest - before < ALLOWED
