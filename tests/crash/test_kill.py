"""`kill -9` in the middle of downloads: nothing wrong is served afterwards, nothing is left behind."""

import asyncio
import functools
import os
import signal
from collections.abc import Callable, Sequence

import pytest

from tests.crash.lab import KIB, TIMEOUT, Lab
from tests.crash.origin import Thing
from tests.crash.transfer import Point, Tally, Transfer, finish_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

PARALLEL = 8
SIZES = ((32, 1024), (1024, 2048), (4097, 6000))
"""KiB: what is verified whole before its first byte, what may be, and what streams."""


def blobs_of_all_sizes(lab: Lab) -> list[Thing]:
    return [lab.origin.blob(lab.chance.randrange(*SIZES[i % len(SIZES)]) * KIB) for i in range(PARALLEL)]


def random_point(lab: Lab, things: Sequence[Thing], action: Callable[[], None]) -> Point:
    """A point anywhere in the bytes of all things."""
    return Point(lab.chance.randrange(sum(thing.size for thing in things)), action)


async def kill_in_mid_blob(lab: Lab, things: Sequence[Thing], clients: Sequence[Transfer], point: Point) -> None:
    """Let the clients send one request each, while the origin stalls in the middle of every blob; then kill."""
    go_on = asyncio.Event()
    stalled = [lab.origin.stall(thing, lab.chance.randrange(thing.size), go_on) for thing in things]
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.attempt())
        for reached in stalled:
            await reached.wait()
        point.reach()
        go_on.set()
    lab.origin.behave()


async def test_killed_at_random_points_of_parallel_downloads(lab: Lab) -> None:
    proxy, tally, kills, left = lab.program(), Tally(), lab.amount(50, 1000), 0
    await proxy.start()
    for number in range(kills):
        things = blobs_of_all_sizes(lab)
        point = random_point(lab, things, proxy.kill)
        stalls = number % 2 == 1
        clients = [Transfer(proxy.address, thing, tally, None if stalls else point.count) for thing in things]
        if stalls:
            await kill_in_mid_blob(lab, things, clients, point)
        else:
            await asyncio.gather(*(client.attempt() for client in clients))
        point.reach()
        await proxy.stop()
        left += len(proxy.temporary())
        await proxy.start()
        assert proxy.temporary() == []
        again = [Transfer(proxy.address, thing, tally) for thing in things]
        await finish_all([*clients, *again])
        tally.assert_clean()
    checked = await proxy.command("verify")
    assert checked.status == 0, checked.errors
    lab.figures(kills=kills, **tally.counts(), temporary_files_at_the_kill=left, temporary_files_after_restart=0)


async def test_killed_workers_leave_the_others_right(lab: Lab) -> None:
    proxy, tally, kills = lab.program(workers=2), Tally(), lab.amount(12, 200)
    await proxy.start()
    for number in range(kills):
        things = blobs_of_all_sizes(lab)
        before = proxy.workers()
        kill = functools.partial(os.kill, lab.chance.choice(before), signal.SIGKILL)
        point = random_point(lab, things, kill)
        stalls = number % 2 == 1
        count = None if stalls else point.count
        clients = [Transfer(proxy.address, thing, tally, count) for thing in things for _ in range(2)]
        if stalls:
            await kill_in_mid_blob(lab, things, clients, point)
        await finish_all(clients)
        point.reach()
        tally.assert_clean()
        await proxy.until(lambda: len(proxy.workers()) == 2 and proxy.workers() != before)  # noqa: B023 - used up here
    assert await proxy.stop() == 0
    await proxy.start()
    assert proxy.temporary() == []
    checked = await proxy.command("verify")
    assert checked.status == 0, checked.errors
    lab.figures(killed_workers=kills, **tally.counts())
