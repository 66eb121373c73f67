"""Large blobs are never held in memory, whoever reads them and however."""

import asyncio
import gc
from pathlib import Path

import pytest

from tests.cache.serving import cached, reading
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import NodeClient
from tests.fakes.proxy import UPSTREAM, blob
from tests.fakes.registry import ScriptedRegistry

CONTENT = Generated(96 * MIB, seed=95)
ALLOWED = 48 * MIB
"""Growth of this process, which is the registry, the proxy and the nodes at once."""


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells memory by /proc")
async def test_misses_followers_slow_readers_and_hits_take_constant_memory(
    plain: ScriptedRegistry, directory: Path
) -> None:
    digest = plain.add_blob(UPSTREAM, CONTENT).digest
    gc.collect()
    before, highest, done = resident(), 0, asyncio.Event()

    async def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, resident())
            await asyncio.sleep(0.01)

    async def pull(node: NodeClient) -> None:
        assert (await node.get(blob(digest), keep_body=False)).sha256 == digest

    async with cached([plain.url], directory) as node, asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        async with reading(node, blob(digest), 1), reading(node, blob(digest), 1):
            async with asyncio.TaskGroup() as pulls:
                for _ in range(2):
                    pulls.create_task(pull(node))
            await pull(node)
        done.set()
    assert len(plain.record.of("blob")) == 1
    assert highest - before < ALLOWED
