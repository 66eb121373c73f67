import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from proxy.transport.singleflight import Background, SingleFlight


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    made = Background()
    yield made
    await made.close()


class Work:
    """Counts its starts and ends on request."""

    def __init__(self, error: Exception | None = None) -> None:
        self.starts = 0
        self.started = asyncio.Event()
        self.finish = asyncio.Event()
        self.cancelled = False
        self._error = error

    async def __call__(self) -> int:
        self.starts += 1
        self.started.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self._error:
            raise self._error
        return self.starts


async def test_all_who_ask_meanwhile_share_one_run(background: Background) -> None:
    flights: SingleFlight[str, int] = SingleFlight(background)
    work, other = Work(), Work()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flights.run("key", work)) for _ in range(20)]
        apart = group.create_task(flights.run("other", other))
        await work.started.wait()
        assert flights.is_flying("key")
        work.finish.set()
        other.finish.set()
    assert [task.result() for task in tasks] == [1] * 20
    assert apart.result() == 1
    assert not flights.is_flying("key")


async def test_the_key_is_free_as_soon_as_the_result_is_there(background: Background) -> None:
    flights: SingleFlight[str, int] = SingleFlight(background)
    work = Work()
    work.finish.set()
    assert [await flights.run("key", work) for _ in range(3)] == [1, 2, 3]


async def test_an_error_reaches_every_waiter_and_frees_the_key(background: Background) -> None:
    flights: SingleFlight[str, int] = SingleFlight(background)
    work = Work(ValueError("wrong"))
    work.finish.set()
    results = await asyncio.gather(*(flights.run("key", work) for _ in range(5)), return_exceptions=True)
    assert [str(result) for result in results] == ["wrong"] * 5
    assert work.starts == 1
    good = Work()
    good.finish.set()
    assert await flights.run("key", good) == 1


async def test_waiters_that_leave_do_not_stop_the_work(background: Background) -> None:
    flights: SingleFlight[str, int] = SingleFlight(background)
    work = Work()
    async with asyncio.TaskGroup() as group:
        leaving = [group.create_task(flights.run("key", work)) for _ in range(3)]
        await work.started.wait()
        staying = group.create_task(flights.run("key", work))
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert flights.is_flying("key")
        work.finish.set()
    assert staying.result() == 1
    assert all(task.cancelled() for task in leaving)


async def test_work_that_all_have_left_goes_on_for_who_comes_next(background: Background) -> None:
    flights: SingleFlight[str, int] = SingleFlight(background)
    work = Work()
    async with asyncio.TaskGroup() as group:
        alone = group.create_task(flights.run("key", work))
        await work.started.wait()
        alone.cancel()
    work.finish.set()
    assert await flights.run("key", work) == 1
    assert not work.cancelled


@pytest.fixture
def problems(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged as a warning or worse."""
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def dies() -> None:
    raise ValueError("wrong")


async def test_a_background_task_that_dies_leaves_a_log_line(
    background: Background, caplog: pytest.LogCaptureFixture, problems: Callable[[], list[str]]
) -> None:
    await asyncio.wait([background.start(dies())])
    assert problems() == ["a bug: the background task dies has died"]
    assert "ValueError: wrong" in caplog.text


async def test_work_that_fails_when_all_have_left_leaves_a_log_line(
    background: Background, problems: Callable[[], list[str]]
) -> None:
    flights: SingleFlight[str, int] = SingleFlight(background)
    work = Work(ValueError("wrong"))
    async with asyncio.TaskGroup() as group:
        alone = group.create_task(flights.run("key", work))
        await work.started.wait()
        alone.cancel()
    work.finish.set()
    await background.drained()
    assert len(problems()) == 1
    assert problems()[0].endswith("failed after everybody who waited for it had left: ValueError: wrong")


async def test_an_error_that_somebody_gets_is_not_logged_here(
    background: Background, problems: Callable[[], list[str]]
) -> None:
    flights: SingleFlight[str, int] = SingleFlight(background)
    work = Work(ValueError("wrong"))
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(flights.run("key", work))
        staying = group.create_task(
            asyncio.wait_for(asyncio.gather(flights.run("key", work), return_exceptions=True), 10)
        )
        await work.started.wait()
        leaving.cancel()
        work.finish.set()
    assert [str(error) for error in staying.result()] == ["wrong"]
    assert problems() == []


async def test_a_task_that_is_cancelled_is_not_logged(
    background: Background, problems: Callable[[], list[str]]
) -> None:
    work = Work()
    background.start(work())
    await work.started.wait()
    await background.close()
    assert problems() == []


async def test_launched_work_that_fails_unseen_is_no_trouble(background: Background) -> None:
    flights: SingleFlight[str, int] = SingleFlight(background)
    work = Work(ValueError("unseen"))
    work.finish.set()
    launched = flights.launch("key", work)
    assert flights.launch("key", work) is launched
    await asyncio.wait([background.start(work())])
    assert not flights.is_flying("key")


async def test_closing_cancels_what_runs_and_waits_for_its_end() -> None:
    background = Background()
    work = Work()
    task = background.start(work())
    await work.started.wait()
    await background.close()
    assert task.cancelled()
    assert work.cancelled
    await background.close()  # nothing is left


async def test_closing_also_ends_what_was_started_meanwhile() -> None:
    background = Background()
    late = Work()
    begun = asyncio.Event()

    async def starts_more() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            background.start(late())

    background.start(starts_more())
    await begun.wait()
    await background.close()
    assert not late.started.is_set() or late.cancelled
    assert not background._tasks
