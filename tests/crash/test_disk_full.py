"""A disk that fills up in the middle of downloads: pulls go on past it, and it is used again once there is room."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.lab import KIB, MIB, TIMEOUT, Lab
from tests.crash.origin import Origin, Thing
from tests.crash.program import Program
from tests.crash.transfer import Point, Tally, Transfer, finish_all
from tests.real.processes import run, scratch
from tests.real.programs import require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

DISK = 32 * MIB
LARGEST = 6 * MIB
PARALLEL = 3


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of its own, small enough to be filled."""
    require("mount", "umount", root=True)
    with scratch("disk") as directory:
        run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(directory)]).checked()
        try:
            yield directory
        finally:
            run(["umount", "--lazy", str(directory)]).checked()


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


async def test_disk_that_fills_up_at_any_position(lab: Lab, disk: Path) -> None:
    positions, tally, recovered = lab.amount(40, 400), Tally(), 0
    proxy = lab.program(disk / "cache", maxSize=f"{DISK // 2 // KIB}Ki")
    await proxy.start()
    ballast = disk / "ballast"
    for number in range(positions):
        point = Point(lab.chance.randrange(PARALLEL * LARGEST // 2), lambda: fill(ballast))
        if number % 8 == 0:
            point.reach()  # full before the first byte
        things = lab.blobs(PARALLEL, LARGEST // 8, LARGEST)
        clients = [Transfer(proxy.address, thing, tally, point.count) for thing in things for _ in range(2)]
        await finish_all(clients, attempts=1)
        point.reach()
        await finish_all([Transfer(proxy.address, thing, tally) for thing in things], attempts=1)
        tally.assert_clean()
        ballast.unlink()
        recovered += await served_from_store(proxy, lab.origin.blob(MIB), tally, lab.origin)
        assert recovered == number + 1, proxy.log()
    assert proxy.temporary() == []
    errors = await proxy.metric("scope_proxy_cache_write_errors_total")
    assert errors > 0
    lab.figures(positions=positions, write_errors_counted=int(errors), **tally.counts(), recovered_by_itself=recovered)
