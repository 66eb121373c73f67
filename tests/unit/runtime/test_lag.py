import asyncio
import time

from proxy.runtime.upkeep import watch_lag
from tests.fakes.client import WITHIN
from tests.fakes.proxy import metric

BLOCKED = 0.05


async def test_a_blocked_loop_is_seen() -> None:
    counted, summed = (f"scope_proxy_event_loop_lag_seconds_{part}" for part in ("count", "sum"))
    count, total = metric(counted), metric(summed)
    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
        watching = group.create_task(watch_lag(0.001))
        while metric(counted) == count:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        time.sleep(BLOCKED)  # noqa: ASYNC251 - what is to be seen
        while metric(summed) - total < BLOCKED / 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        watching.cancel()
    assert metric(summed) - total >= BLOCKED / 2
