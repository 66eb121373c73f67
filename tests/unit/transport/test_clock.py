import asyncio

import pytest

from proxy.transport.clock import Deadline, DeadlineExceeded


async def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(DeadlineExceeded):
        async with Deadline.after(0.01).enforced():
            await asyncio.Event().wait()


async def test_a_spent_budget_ends_the_first_wait() -> None:
    spent = Deadline.after(-5)
    assert spent.remaining == 0
    with pytest.raises(DeadlineExceeded):
        async with spent.enforced():
            await asyncio.Event().wait()


async def test_what_is_done_in_time_is_left_alone() -> None:
    deadline = Deadline.after(60)
    async with deadline.enforced():
        await asyncio.sleep(0)
    assert 0 < deadline.remaining <= 60


async def test_other_errors_and_time_outs_inside_stay_what_they_are() -> None:
    for error in (TimeoutError("of a connection"), ValueError("wrong")):
        with pytest.raises(type(error), match=str(error)):
            async with Deadline.after(60).enforced():
                raise error


async def test_a_cancellation_from_outside_stays_one() -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with Deadline.after(60).enforced():
            started.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        await started.wait()
        task.cancel()
    assert task.cancelled()
