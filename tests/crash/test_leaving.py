"""The client that began a download leaves: everybody else gets it, and it left the origin once."""

import asyncio

import pytest

from tests.crash.lab import MIB, TIMEOUT, Lab
from tests.crash.origin import Origin, Thing
from tests.crash.program import Program
from tests.crash.transfer import PATIENCE, Tally, Transfer
from tests.fakes.client import NodeClient, read_head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

STREAMED = 4 * MIB + 1
"""Bytes from which on a digest can be no manifest, so that its first bytes go out at once."""
AT_ONCE = 8
FOLLOWERS = 2


async def leave_first(proxy: Program, origin: Origin, thing: Thing, at: int, tally: Tally) -> None:
    """One client begins the download, others join it, and it leaves while `at` bytes of it have come."""
    go_on = asyncio.Event()
    stalled = origin.stall(thing, at, go_on)
    joined = asyncio.Semaphore(0)
    followers = [Transfer(proxy.address, thing, tally, lambda _: joined.release()) for _ in range(FOLLOWERS)]
    async with asyncio.TaskGroup() as tasks:
        async with NodeClient(proxy.address).opened("GET", thing.target) as (reader, writer):
            await stalled.wait()
            await read_head(reader)
            for follower in followers:
                tasks.create_task(follower.finish(attempts=1))
                await joined.acquire()
            writer.transport.abort()
        go_on.set()


@pytest.mark.parametrize("workers", [1, 2])
async def test_first_client_leaves(lab: Lab, workers: int) -> None:
    proxy, tally, leaving = lab.program(workers=workers), Tally(), lab.amount(200 if workers == 1 else 40, 2000)
    await proxy.start()
    for _ in range(leaving // AT_ONCE):
        things = lab.blobs(AT_ONCE, STREAMED, STREAMED + MIB)
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            for thing in things:
                at = lab.chance.randrange(MIB // 2, thing.size - MIB // 8)
                tasks.create_task(leave_first(proxy, lab.origin, thing, at, tally))
        tally.assert_clean()
        assert [lab.origin.gets(thing) for thing in things] == [1] * AT_ONCE
        lab.origin.behave()
        lab.origin.record.clear()
    lab.figures(left=leaving, **tally.counts(), downloads_per_blob=1)
