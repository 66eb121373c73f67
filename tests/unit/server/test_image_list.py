"""The list of cached images, while many request it with patterns of their own."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from proxy.oci.reference import Digest
from proxy.server.status.images import ImageCollector
from proxy.store.opened import OpenedStore
from proxy.transport.singleflight import Background
from tests.unit.store.support import made

pytestmark = pytest.mark.security


class CountingIndex:
    """Counts the lists that are made at one time."""

    def __init__(self) -> None:
        self.running = self.most = self.calls = 0

    async def last_used(self, digests: Sequence[Digest]) -> dict[Digest, float]:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(100):
            await asyncio.sleep(0)
        self.running -= 1
        return dict.fromkeys(digests, 0.0)


async def test_the_cache_is_read_for_one_list_at_a_time(tmp_path: Path) -> None:
    """Each pattern is a list of its own, and each list reads all tags: the admin port asks nobody for a password."""
    index, background, layout = CountingIndex(), Background(), await asyncio.to_thread(made, tmp_path)
    store = cast("OpenedStore", SimpleNamespace(layout=layout, index=index))
    collector = ImageCollector(background)
    lists = [collector.collect(store, (), f"**/{number}") for number in range(8)]
    found = await asyncio.gather(*lists)
    assert [each.error for each in found] == [""] * 8
    assert (index.calls, index.most) == (8, 1)
    await background.close()
