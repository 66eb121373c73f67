import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy.store.blobs import StoreError
from proxy.store.disk import TimedThreads, to_the_end, within_timeout
from proxy.transport.singleflight import Background
from tests.fakes.client import WITHIN

PATIENCE = 0.05
"""Seconds after which a call is late."""


async def test_the_result_comes_back() -> None:
    assert await to_the_end(lambda: 5) == 5


async def test_errors_come_back() -> None:
    with pytest.raises(ZeroDivisionError):
        await to_the_end(lambda: 1 // 0)


async def test_cancelled_as_often_as_one_likes_it_waits_for_the_end() -> None:
    begun, may_end = threading.Event(), threading.Event()
    ended: list[bool] = []
    undone: list[str] = []

    def work() -> str:
        begun.set()
        may_end.wait(10)
        ended.append(True)
        return "opened"

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(to_the_end(work, undone.append))
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(3):
            task.cancel()
            await asyncio.wait([task], timeout=0.01)
            assert not task.done()
        may_end.set()
    assert task.cancelled()
    assert ended == [True]
    assert undone == ["opened"]


async def test_a_failure_after_the_cancelling_is_nobodys() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(10)
        raise OSError("broken")

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(to_the_end(work))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        may_end.set()
    assert task.cancelled()


class HungCall:
    """A call of a disk that does not answer before it may."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.undone = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        self.may_end.wait(30)
        return "opened"

    def undo(self, result: str) -> None:
        assert result == "opened"
        self.undone.set()


@pytest.fixture
def hung() -> Iterator[HungCall]:
    call = HungCall()
    yield call
    call.may_end.set()


@pytest.fixture
def timed() -> Iterator[TimedThreads]:
    made = TimedThreads(ThreadPoolExecutor(2), late_limit=1, seconds=PATIENCE)
    yield made
    made.executor.shutdown(wait=False)


async def test_a_call_that_is_late_is_left_and_undone(timed: TimedThreads, hung: HungCall) -> None:
    with pytest.raises(StoreError, match="does not respond") as caught:
        await timed.in_time(hung, hung.undo)
    assert caught.value.reason == "timeout"
    hung.may_end.set()
    assert await asyncio.to_thread(hung.undone.wait, 10)


async def test_nobody_waits_while_a_call_is_late(timed: TimedThreads, hung: HungCall) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match="does not respond"):
            await timed.in_time(hung)
    begun: list[bool] = []
    with pytest.raises(StoreError, match="does not respond"):
        await timed.in_time(lambda: begun.append(True))
    assert begun == []
    hung.may_end.set()
    async with asyncio.timeout(10):
        while timed.is_late:  # noqa: ASYNC110 - a thread ends
            await asyncio.sleep(0.01)
    timed.seconds = WITHIN
    assert await timed.in_time(lambda: 5) == 5


async def test_whoever_is_cancelled_leaves_at_once(timed: TimedThreads, hung: HungCall) -> None:
    timed.seconds = WITHIN
    background = Background()
    task = background.start(timed.in_time(hung, hung.undo))
    assert await asyncio.to_thread(hung.begun.wait, 10)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not hung.may_end.is_set()
    hung.may_end.set()
    assert await asyncio.to_thread(hung.undone.wait, 10)


async def test_errors_of_a_call_that_is_in_time_come_back() -> None:
    timed = TimedThreads(ThreadPoolExecutor(1), late_limit=1, seconds=WITHIN)
    with pytest.raises(ZeroDivisionError):
        await timed.in_time(lambda: 1 // 0)
    assert not timed.is_late
    timed.executor.shutdown()


async def test_what_can_be_cancelled_is_waited_for_as_long() -> None:
    with pytest.raises(StoreError, match="does not respond"):
        await within_timeout(asyncio.Event().wait(), PATIENCE)
    assert await within_timeout(asyncio.sleep(0, 5)) == 5
