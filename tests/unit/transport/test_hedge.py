"""Requests that are sent once more while the first one waits."""

import asyncio

import pytest

from proxy.transport.retry import hedged
from proxy.transport.singleflight import Background

SOON, NEVER = 0.01, 3600.0


class Attempts:
    """Requests whose ends a test brings about, by their number."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[str]] = []
        self.discarded: list[str] = []
        self._begins = asyncio.Condition()

    async def attempt(self) -> str:
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with self._begins:
            self.begun.append(end)
            self._begins.notify_all()
        return await end

    async def hedged(self) -> str:
        return await hedged(self.attempt, self.attempt, SOON, self.discarded.append)

    async def second(self) -> None:
        async with self._begins:
            await self._begins.wait_for(lambda: len(self.begun) == 2)


async def test_what_comes_soon_is_requested_once() -> None:
    calls = 0

    async def answer() -> str:
        nonlocal calls
        calls += 1
        return "answer"

    assert await hedged(answer, answer, NEVER, print) == "answer"
    assert calls == 1


async def test_what_fails_soon_is_reported_at_once() -> None:
    async def fail() -> str:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        await hedged(fail, fail, NEVER, print)


@pytest.mark.parametrize("faster", [0, 1])
async def test_the_faster_of_two_counts_and_the_other_is_cancelled(faster: int) -> None:
    attempts = Attempts()
    request = Background().start(attempts.hedged())
    await attempts.second()
    attempts.begun[faster].set_result("answer")
    assert await request == "answer"
    assert attempts.begun[1 - faster].cancelled()


@pytest.mark.parametrize("first", [0, 1])
async def test_one_that_fails_leaves_the_other_its_time(first: int) -> None:
    attempts = Attempts()
    request = Background().start(attempts.hedged())
    await attempts.second()
    attempts.begun[first].set_exception(LookupError("broken"))
    await asyncio.sleep(0)
    attempts.begun[1 - first].set_result("answer")
    assert await request == "answer"


async def test_when_both_fail_the_last_failure_is_reported() -> None:
    attempts = Attempts()
    request = Background().start(attempts.hedged())
    await attempts.second()
    attempts.begun[1].set_exception(LookupError("broken"))
    await asyncio.sleep(0)
    attempts.begun[0].set_exception(LookupError("too late"))
    with pytest.raises(LookupError, match="too late"):
        await request


async def test_of_two_answers_at_once_one_is_discarded() -> None:
    attempts = Attempts()
    request = Background().start(attempts.hedged())
    await attempts.second()
    for number, end in enumerate(attempts.begun):
        end.set_result(f"answer {number}")
    assert {await request, *attempts.discarded} == {"answer 0", "answer 1"}


async def test_who_is_cancelled_leaves_no_request_and_no_answer_behind() -> None:
    attempts = Attempts()
    request = Background().start(attempts.hedged())
    await attempts.second()
    attempts.begun[0].set_result("answer")
    asyncio.get_running_loop().call_soon(request.cancel)
    with pytest.raises(asyncio.CancelledError):
        await request
    assert attempts.begun[1].cancelled()
    assert attempts.discarded == ["answer"]


async def test_work_that_cancels_itself_is_no_answer() -> None:
    """A flight that ends with the proxy cancels all who wait for it."""

    async def cancelled() -> str:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await hedged(cancelled, cancelled, NEVER, print)
