"""A disk that fills up in the middle of downloads: pulls go on past it, and it is used again once there is room."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.origin import Origin, Thing
from tests.crash.program import Program
from tests.crash.transfer import Point, Tally, Transfer
from tests.real.processes import run, scratch
from tests.real.programs import require

KIB = 1024
MIB = 1024 * KIB
DISK = 32 * MIB
LARGEST = 6 * MIB
PARALLEL = 3


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of its own, small enough to be filled."""
    require("mount", "umount", root=True)
    with scratch("disk") as folder:
        run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(folder)]).checked()
        try:
            yield folder
        finally:
            run(["umount", "--lazy", str(folder)]).checked()


def fill(ballast: Path) -> None:
    """Write until there is no byte left."""
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(MIB // 4))


async def served_from_store(proxy: Program, thing: Thing, tally: Tally, origin: Origin) -> bool:
    """Whether a second pull of it costs nothing upstream."""
    await Transfer(proxy.address, thing, tally).finish()
    before = origin.gets(thing)
    await Transfer(proxy.address, thing, tally).finish()
    return origin.gets(thing) == before


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_disk_that_fills_up_at_any_position(
    origin: Origin,
    program: Callable[..., Program],
    disk: Path,
    amount: Callable[[int, int], int],
    chance: random.Random,
    figures: Callable[..., None],
) -> None:
    positions, tally, recovered = amount(40, 400), Tally(), 0
    proxy = program(disk / "cache", maxSize=f"{DISK // 2 // KIB}Ki")
    await proxy.start()
    ballast = disk / "ballast"
    for number in range(positions):
        point = Point(chance.randrange(PARALLEL * LARGEST // 2), lambda: fill(ballast))
        if number % 8 == 0:
            point.reach()  # full before the first byte
        things = [origin.blob(chance.randrange(LARGEST // 8, LARGEST)) for _ in range(PARALLEL)]
        clients = [Transfer(proxy.address, thing, tally, point.count) for thing in things for _ in range(2)]
        await asyncio.gather(*(client.finish(attempts=1) for client in clients))
        point.reach()
        late = [Transfer(proxy.address, thing, tally) for thing in things]
        await asyncio.gather(*(client.finish(attempts=1) for client in late))
        tally.assert_clean()
        ballast.unlink()
        recovered += await served_from_store(proxy, origin.blob(MIB), tally, origin)
        assert recovered == number + 1, proxy.log()
    assert proxy.temporary() == []
    errors = await proxy.metric("scope_proxy_cache_write_errors_total")
    assert errors > 0
    figures(positions=positions, write_errors_counted=int(errors), **tally.counts(), recovered_by_itself=recovered)
