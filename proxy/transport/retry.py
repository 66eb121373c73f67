"""When to try again: after which pause, and once more while the first request still waits."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

ROUNDS = 3
"""How often the endpoints are tried for one request."""
_FIRST_PAUSE = 0.1
_LONGEST_RETRY_AFTER = 24 * 3600.0


def pause_before(round_number: int) -> float:
    """Seconds to wait before a further round: four times as long each, spread so that nodes do not keep step."""
    return _FIRST_PAUSE * 4.0 ** (round_number - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, at most a day; None for none and for what cannot be read."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text.lstrip("0")[:12] or 0), _LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


Result = TypeVar("Result")


async def hedged(
    first: Callable[[], Awaitable[Result]],
    second: Callable[[], Awaitable[Result]],
    after: float,
    discard: Callable[[Result], Any],
) -> Result:
    """The result of whichever ends first; the second one begins if there is none `after` so many seconds.

    The other one is cancelled, or its result given to `discard`. The first one is not given up: what it waits for may
    be on its way. Raises what the last one raises, once both have failed.
    """
    race = _Race[Result]()
    try:
        await race.run(first, second, after)
    except BaseException:
        for result in race.results:
            discard(result)
        raise
    for late in race.results[1:]:
        discard(late)
    if race.results:
        return race.results[0]
    raise race.failures[-1] if race.failures else asyncio.CancelledError


class _Race(Generic[Result]):
    """Attempts, and what came of them."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.failures: list[Exception] = []
        self._running = 0
        self._decided = asyncio.Event()

    async def run(
        self, first: Callable[[], Awaitable[Result]], second: Callable[[], Awaitable[Result]], after: float
    ) -> None:
        """Until one attempt has a result, or none is left."""
        async with asyncio.TaskGroup() as tasks:
            attempts = [self._begin(tasks, first)]
            try:
                async with asyncio.timeout(after):
                    await self._decided.wait()
            except TimeoutError:
                attempts.append(self._begin(tasks, second))
                await self._decided.wait()
            for attempt in attempts:
                attempt.cancel()

    def _begin(self, tasks: asyncio.TaskGroup, work: Callable[[], Awaitable[Result]]) -> asyncio.Task[None]:
        self._running += 1
        return tasks.create_task(self._attempt(work))

    async def _attempt(self, work: Callable[[], Awaitable[Result]]) -> None:
        try:
            self.results.append(await work())
        except Exception as error:  # noqa: BLE001 - raised by the caller, unless the other attempt has a result
            self.failures.append(error)
        finally:
            self._running -= 1
            if self.results or not self._running:
                self._decided.set()
