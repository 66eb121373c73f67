import asyncio
import threading

import pytest

from proxy.store.threads import to_the_end


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
