"""Requests that are sent once more while the first one waits."""

import asyncio

import pytest

from proxy.routing.table import Route
from proxy.transport.singleflight import Background
from proxy.upstream.hedge import hedged
from tests.fakes.proxy import metric
from tests.unit.routing.support import table

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

    async def second(self) -> None:
        async with self._begins:
            await self._begins.wait_for(lambda: len(self.begun) == 2)


@pytest.fixture
def route() -> Route:
    return table("reg.example: {endpoints: ['https://up.example']}").resolve("team/app", namespace="reg.example")


async def test_what_comes_soon_is_asked_for_once(route: Route) -> None:
    asked = 0

    async def answer() -> str:
        nonlocal asked
        asked += 1
        return "answer"

    assert await hedged(route, answer, NEVER) == "answer"
    assert asked == 1


async def test_what_fails_soon_is_told_at_once(route: Route) -> None:
    async def fail() -> str:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        await hedged(route, fail, NEVER)


@pytest.mark.parametrize("faster", [0, 1])
async def test_the_faster_of_two_counts_and_the_other_is_cancelled(route: Route, faster: int) -> None:
    attempts = Attempts()
    before = metric("scope_proxy_upstream_retries_total", upstream=route.upstream)
    request = Background().start(hedged(route, attempts.attempt, SOON))
    await attempts.second()
    attempts.begun[faster].set_result("answer")
    assert await request == "answer"
    assert attempts.begun[1 - faster].cancelled()
    assert metric("scope_proxy_upstream_retries_total", upstream=route.upstream) == before + 1


@pytest.mark.parametrize("first", [0, 1])
async def test_one_that_fails_leaves_the_other_its_time(route: Route, first: int) -> None:
    attempts = Attempts()
    request = Background().start(hedged(route, attempts.attempt, SOON))
    await attempts.second()
    attempts.begun[first].set_exception(LookupError("broken"))
    await asyncio.sleep(0)
    attempts.begun[1 - first].set_result("answer")
    assert await request == "answer"


async def test_when_both_fail_the_last_failure_is_told(route: Route) -> None:
    attempts = Attempts()
    request = Background().start(hedged(route, attempts.attempt, SOON))
    await attempts.second()
    attempts.begun[1].set_exception(LookupError("broken"))
    await asyncio.sleep(0)
    attempts.begun[0].set_exception(LookupError("too late"))
    with pytest.raises(LookupError, match="too late"):
        await request


async def test_of_two_answers_at_once_one_is_discarded(route: Route) -> None:
    attempts = Attempts()
    request = Background().start(hedged(route, attempts.attempt, SOON, attempts.discarded.append))
    await attempts.second()
    for number, end in enumerate(attempts.begun):
        end.set_result(f"answer {number}")
    assert {await request, *attempts.discarded} == {"answer 0", "answer 1"}


async def test_who_is_cancelled_leaves_no_request_and_no_answer_behind(route: Route) -> None:
    attempts = Attempts()
    request = Background().start(hedged(route, attempts.attempt, SOON, attempts.discarded.append))
    await attempts.second()
    attempts.begun[0].set_result("answer")
    asyncio.get_running_loop().call_soon(request.cancel)
    with pytest.raises(asyncio.CancelledError):
        await request
    assert attempts.begun[1].cancelled()
    assert attempts.discarded == ["answer"]
