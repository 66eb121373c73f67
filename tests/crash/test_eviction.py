"""A cache ten times too small under load: eviction harms nobody."""

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.crash.origin import Origin
from tests.crash.program import Program
from tests.crash.transfer import Tally, Transfer

KIB = 1024
MIB = 1024 * KIB
BLOBS = 40
CLIENTS = 8


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("workers", [1, 2])
async def test_cache_ten_times_too_small(
    origin: Origin,
    program: Callable[..., Program],
    amount: Callable[[int, int], int],
    chance: random.Random,
    figures: Callable[..., None],
    workers: int,
) -> None:
    things = [origin.blob(chance.randrange(MIB // 4, 2 * MIB)) for _ in range(BLOBS)]
    bound = sum(thing.size for thing in things) // 10 // KIB * KIB
    proxy, tally, pulls = program(workers=workers, maxSize=f"{bound // KIB}Ki"), Tally(), amount(50, 2000)
    await proxy.start()
    peak = 0

    async def client() -> None:
        nonlocal peak
        for _ in range(pulls):
            await Transfer(proxy.address, chance.choice(things), tally).finish(attempts=1)
            peak = max(peak, stored_bytes())

    def stored_bytes() -> int:
        return sum(thing.size for thing in things if proxy.stored(thing).exists())

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    tally.assert_clean()
    pruned = await proxy.command("prune")
    assert pruned.status == 0, pruned.errors
    assert stored_bytes() <= bound
    assert proxy.temporary() == []
    fetched = sum(origin.gets(thing) for thing in things)
    figures(**tally.counts(), fetched=fetched, bound=bound, peak=peak)
