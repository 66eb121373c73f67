"""Too few file descriptors: nobody gets a wrong byte, nothing crashes, and it passes."""

import asyncio

import pytest

from tests.crash.lab import KIB, TIMEOUT, Lab
from tests.crash.transfer import Tally, Transfer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

LIMITS = (64, 96, 128, 192, 256)
CLIENTS = (50, 75, 100)
BLOBS = 20
RECOVERY_ATTEMPTS = 3


async def test_too_few_file_descriptors(lab: Lab) -> None:
    runs, crowd, after, served = lab.amount(20, 100), Tally(), Tally(), 0
    for number in range(runs):
        proxy = lab.program()
        await proxy.start(open_files=LIMITS[number % len(LIMITS)])
        things = lab.blobs(BLOBS, 64 * KIB, 1024 * KIB)
        count = lab.chance.choice(CLIENTS)
        clients = [Transfer(proxy.address, things[i % BLOBS], crowd) for i in range(count)]
        await asyncio.gather(*(client.attempt() for client in clients))
        assert crowd.wrong == 0, crowd.reasons
        served += sum(client.is_done for client in clients)
        again = [Transfer(proxy.address, thing, after) for thing in things[:3]]
        for client in again:
            await client.finish(RECOVERY_ATTEMPTS)
        after.assert_clean()
        assert await proxy.stop() == 0
    assert served > 0, crowd.reasons
    lab.figures(runs=runs, clients=crowd.pulls, served=served, refused=crowd.refused, cut=crowd.cut, wrong=crowd.wrong)
