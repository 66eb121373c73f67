"""`kill -9` in the middle of downloads: nothing wrong is served afterwards, nothing is left behind."""

import asyncio
import functools
import os
import random
import signal
from collections.abc import Callable, Sequence

import pytest

from tests.crash.origin import Origin, Thing
from tests.crash.program import Program
from tests.crash.transfer import Point, Tally, Transfer

PARALLEL = 8
KIB = 1024
SIZES = ((32, 1024), (1024, 2048), (4097, 6000))
"""KiB: what is verified whole before its first byte, what may be, and what streams."""


async def kill_in_mid_blob(
    origin: Origin, things: Sequence[Thing], clients: Sequence[Transfer], point: Point, chance: random.Random
) -> None:
    """Let the clients send one request each, while the origin stalls in the middle of every blob; then kill."""
    go_on = asyncio.Event()
    stalled = [origin.stall(thing, chance.randrange(thing.size), go_on) for thing in things]
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.attempt())
        for reached in stalled:
            await reached.wait()
        point.reach()
        go_on.set()
    origin.behave()


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_killed_at_random_points_of_parallel_downloads(
    origin: Origin,
    program: Callable[..., Program],
    amount: Callable[[int, int], int],
    chance: random.Random,
    figures: Callable[..., None],
) -> None:
    proxy, tally, kills, left = program(), Tally(), amount(50, 1000), 0
    await proxy.start()
    for number in range(kills):
        things = [origin.blob(chance.randrange(*SIZES[i % len(SIZES)]) * KIB) for i in range(PARALLEL)]
        point = Point(chance.randrange(sum(thing.size for thing in things)), proxy.kill)
        stalls = number % 2 == 1
        clients = [Transfer(proxy.address, thing, tally, None if stalls else point.count) for thing in things]
        if stalls:
            await kill_in_mid_blob(origin, things, clients, point, chance)
        else:
            await asyncio.gather(*(client.attempt() for client in clients))
        point.reach()
        await proxy.stop()
        left += len(proxy.temporary())
        await proxy.start()
        assert proxy.temporary() == []
        again = [Transfer(proxy.address, thing, tally) for thing in things]
        await asyncio.gather(*(client.finish() for client in (*clients, *again)))
        tally.assert_clean()
    checked = await proxy.command("verify")
    assert checked.status == 0, checked.errors
    figures(kills=kills, **tally.counts(), temporary_files_at_the_kill=left, temporary_files_after_restart=0)


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_killed_workers_leave_the_others_right(
    origin: Origin,
    program: Callable[..., Program],
    amount: Callable[[int, int], int],
    chance: random.Random,
    figures: Callable[..., None],
) -> None:
    proxy, tally, kills = program(workers=2), Tally(), amount(12, 200)
    await proxy.start()
    for number in range(kills):
        things = [origin.blob(chance.randrange(*SIZES[i % len(SIZES)]) * KIB) for i in range(PARALLEL)]
        before = proxy.workers()
        kill = functools.partial(os.kill, chance.choice(before), signal.SIGKILL)
        point = Point(chance.randrange(sum(thing.size for thing in things)), kill)
        stalls = number % 2 == 1
        count = None if stalls else point.count
        clients = [Transfer(proxy.address, thing, tally, count) for thing in things for _ in range(2)]
        if stalls:
            await kill_in_mid_blob(origin, things, clients, point, chance)
        await asyncio.gather(*(client.finish() for client in clients))
        point.reach()
        tally.assert_clean()
        await proxy.until(lambda: len(proxy.workers()) == 2 and proxy.workers() != before)  # noqa: B023 - used up here
    assert await proxy.stop() == 0
    await proxy.start()
    assert proxy.temporary() == []
    checked = await proxy.command("verify")
    assert checked.status == 0, checked.errors
    figures(killed_workers=kills, **tally.counts())
