"""A cache ten times too small under load: eviction harms nobody."""

import asyncio

import pytest

from tests.crash.lab import KIB, MIB, TIMEOUT, Lab
from tests.crash.transfer import Tally, Transfer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

BLOBS = 40
CLIENTS = 8


@pytest.mark.parametrize("workers", [1, 2])
async def test_cache_ten_times_too_small(lab: Lab, workers: int) -> None:
    things = lab.blobs(BLOBS, MIB // 4, 2 * MIB)
    bound = sum(thing.size for thing in things) // 10 // KIB * KIB
    proxy, tally, pulls = lab.program(workers=workers, maxSize=f"{bound // KIB}Ki"), Tally(), lab.amount(50, 2000)
    await proxy.start()
    peak = 0

    async def client() -> None:
        nonlocal peak
        for _ in range(pulls):
            await Transfer(proxy.address, lab.chance.choice(things), tally).finish(attempts=1)
            peak = max(peak, stored_bytes())

    def stored_bytes() -> int:
        return sum(thing.size for thing in things if proxy.stored(thing).exists())

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    tally.assert_clean()
    pruned = await proxy.command("prune")
    assert pruned.status == 0, pruned.errors
    assert stored_bytes() <= bound
    assert proxy.temporary() == []
    fetched = sum(lab.origin.gets(thing) for thing in things)
    lab.figures(**tally.counts(), fetched=fetched, bound=bound, peak=peak)
