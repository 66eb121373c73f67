"""Time of the upstream, separate from the time that a request waits for us."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.transport.clock import STEP_SECONDS, Attempt, UpstreamSilent, at_upstream, limited, measured
from proxy.transport.singleflight import Background, SingleFlight

LONG = 1000.0
STEPS = 5
LIMIT = STEPS * STEP_SECONDS


class Clock:
    """The clock of the event loop, as this test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def pass_by(self, seconds: float = STEP_SECONDS, times: int = 1) -> None:
        """Let time pass, and all that is due before and by then happen."""
        for _ in range(times):
            await self._settle()
            self.now += seconds
            await self._settle()

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", made)
    return made


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    made = Background()
    yield made
    await made.close()


async def test_an_upstream_that_is_silent_for_its_time_is_reported(clock: Clock) -> None:
    async def silent() -> None:
        async with limited(LIMIT):
            with at_upstream():
                await clock.pass_by(times=STEPS + 1)

    with pytest.raises(UpstreamSilent):
        await silent()


async def test_what_waits_for_us_takes_none_of_that_time(clock: Clock) -> None:
    async def asks(times: int) -> None:
        async with limited(LIMIT):
            await clock.pass_by(LONG, times=STEPS)
            for _ in range(times):
                with at_upstream():
                    await clock.pass_by()
                await clock.pass_by(LONG)

    await asks(STEPS - 1)
    with pytest.raises(UpstreamSilent):
        await asks(STEPS + 1)


async def test_an_event_loop_that_is_late_makes_no_upstream_silent(clock: Clock) -> None:
    began = clock.now
    async with limited(LIMIT):
        with at_upstream():
            await clock.pass_by(LONG, times=STEPS - 1)  # nothing that had come could be read meanwhile
    assert clock.now - began > LIMIT


async def test_a_time_out_inside_stays_what_it_is(clock: Clock) -> None:
    async def is_late() -> None:
        async with limited(LIMIT):
            with at_upstream():
                async with asyncio.timeout(STEP_SECONDS):
                    await clock.pass_by(times=2)

    with pytest.raises(TimeoutError):
        await is_late()


@pytest.mark.parametrize(("own", "blamed"), [(0.0, False), (0.9, False), (1.1, True), (10.0, True)])
async def test_limits_of_ours_are_to_blame_where_they_took_a_part_of_the_budget(
    clock: Clock, own: float, *, blamed: bool
) -> None:
    with measured() as time:
        await clock.pass_by(own)
        with at_upstream():
            await clock.pass_by(10.0 - own)
    assert time.is_short_of(10.0) is blamed


async def test_several_requests_at_one_time_take_it_once(clock: Clock) -> None:
    with measured() as time:
        with at_upstream():
            with at_upstream():
                await clock.pass_by(3.0)
            await clock.pass_by(2.0)
        await clock.pass_by(LONG)
    assert time.seconds == 5.0


async def test_who_measures_around_sees_it_too(clock: Clock) -> None:
    with measured() as outer:
        with measured() as inner, at_upstream():
            await clock.pass_by(2.0)
        with at_upstream():
            await clock.pass_by(1.0)
    assert (inner.seconds, outer.seconds) == (2.0, 3.0)


async def test_a_request_counts_from_its_first_connection_on(clock: Clock) -> None:
    with measured() as time:
        with Attempt() as attempt:
            await clock.pass_by(LONG)
            attempt.begin()
            await clock.pass_by(1.0)
            attempt.begin()  # the first one was closed
            await clock.pass_by(1.0)
        with Attempt():
            await clock.pass_by(LONG)
    assert time.seconds == 2.0


async def test_nobody_need_measure(clock: Clock) -> None:
    began = clock.now
    with at_upstream(), Attempt() as attempt:
        attempt.begin()
        await clock.pass_by()
    assert clock.now == began + STEP_SECONDS


async def test_who_joins_work_sees_the_time_that_it_is_with_the_upstream(clock: Clock, background: Background) -> None:
    flights: SingleFlight[str, None] = SingleFlight(background)
    go, end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        with at_upstream():
            await end.wait()

    async def waits(found: list[float]) -> None:
        with measured() as time:
            await flights.run("key", work)
        found.append(time.seconds)

    started: list[float] = []
    joined: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(flights.run("key", work))  # who does not measure starts it
        tasks.create_task(waits(started))
        await clock.pass_by(LONG)
        go.set()
        await clock.pass_by(2.0)
        tasks.create_task(waits(joined))
        await clock.pass_by(3.0)
        end.set()
    assert (started, joined) == ([5.0], [3.0])


async def test_who_joins_a_silent_upstream_leaves_after_its_own_time(clock: Clock, background: Background) -> None:
    flights: SingleFlight[str, None] = SingleFlight(background)
    end = asyncio.Event()

    async def work() -> None:
        with at_upstream():
            await end.wait()

    async def waits() -> None:
        with pytest.raises(UpstreamSilent):
            async with limited(LIMIT):
                await flights.run("key", work)

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(waits())
        await clock.pass_by(times=STEPS - 1)
        second = tasks.create_task(waits())
        await clock.pass_by(times=2)
        assert (first.done(), second.done()) == (True, False)
        await clock.pass_by(times=STEPS)
        assert second.done()
    end.set()
