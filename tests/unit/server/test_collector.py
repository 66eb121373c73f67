"""What the status says of a cache whose pins take long to read."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.load import parse_config
from proxy.server.refusals import Refusals
from proxy.server.status.collector import Snapshot, StatusCollector
from proxy.store.eviction import Bounds, Evictor
from proxy.store.opened import OpenedStore, opened_store
from proxy.store.pins import PinnedContent
from proxy.transport.singleflight import Background
from proxy.upstream.endpoints import Endpoints


class SlowEvictor(Evictor):
    """Reads the pins without end, as with very many tags."""

    async def pinned(self) -> PinnedContent:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    tasks = Background()
    yield tasks
    await tasks.close()


async def test_pins_that_take_long_to_read_are_no_trouble_of_the_cache(tmp_path: Path, background: Background) -> None:
    text = f"version: 1\nregistries: {{docker.io: {{}}}}\ncache: {{path: {tmp_path / 'cache'}, keep: ['docker.io/**']}}"
    loaded = await asyncio.to_thread(parse_config, text, "f")
    assert loaded.config.cache is not None
    async with opened_store(loaded.config.cache) as store:
        evictor = SlowEvictor(store.layout, store.index, store.blobs, Bounds(1 << 30, 0))
        slow: OpenedStore = replace(store, evictor=evictor)
        snapshot = Snapshot(loaded, Endpoints(), slow, (), ready=True, draining=False, in_flight=0, reload=None)
        status = await StatusCollector(lambda: snapshot, Refusals(), background).status()
    assert status.store is not None
    assert (status.store.trouble, status.store.pins, status.store.objects) == ("", "", 0)
