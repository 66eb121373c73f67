import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from proxy.store.shared_scan import SharedScan
from tests.cache.serving import eventually


class Disk:
    """Counts scans; each waits until it may end."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Semaphore(0)

    def scan(self) -> int:
        self.begun += 1
        found = self.begun
        assert self.may_end.acquire(timeout=30)
        return found


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.may_end.release(100)


def has_begun(disk: Disk, count: int) -> Callable[[], bool]:
    return lambda: disk.begun == count


async def test_who_asks_while_one_runs_shares_the_next(disk: Disk) -> None:
    shared = SharedScan(disk.scan)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(shared.result())
        await eventually(has_begun(disk, 1))
        others = [tasks.create_task(shared.result()) for _ in range(50)]
        await asyncio.sleep(0)
        disk.may_end.release(2)
    assert await first == 1
    assert {await other for other in others} == {2}


async def test_a_result_is_for_nobody_who_asks_later(disk: Disk) -> None:
    shared = SharedScan(disk.scan)
    disk.may_end.release(3)
    assert [await shared.result() for _ in range(3)] == [1, 2, 3]


async def test_who_leaves_leaves_the_next_scan_to_the_others(disk: Disk) -> None:
    shared = SharedScan(disk.scan)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(shared.result())
        await eventually(has_begun(disk, 1))
        second, third = (tasks.create_task(shared.result()) for _ in range(2))
        await asyncio.sleep(0)
        for left in (first, second):
            left.cancel()
        disk.may_end.release(2)
    assert first.cancelled()
    assert second.cancelled()
    assert await third == 2


async def test_an_error_is_for_who_looked_alone() -> None:
    outcomes = iter(["broken", "good"])

    def scan() -> str:
        outcome = next(outcomes)
        if outcome == "broken":
            raise OSError(outcome)
        return outcome

    shared = SharedScan(scan)
    found = await asyncio.gather(shared.result(), shared.result(), return_exceptions=True)
    assert isinstance(found[0], OSError)
    assert found[1] == "good"
