"""A request that is sent once more while the first one waits: an answer that is lost would be waited for in vain."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from proxy.metrics import UPSTREAM_RETRIES
from proxy.routing.table import Route

_logger = logging.getLogger(__name__)
Result = TypeVar("Result")


async def hedged(
    route: Route, work: Callable[[], Awaitable[Result]], after: float, discard: Callable[[Result], Any] = lambda _: None
) -> Result:
    """The first result of requests to a route, which are begun once more if there is none `after` so many seconds.

    The slower ones are cancelled, or their result given to `discard`. The first ones are not given up: what they wait
    for may be on its way (a registry that fetches from elsewhere). Raises what `work` does, once all of it has failed.
    """
    race = _Race(route, work)
    try:
        await race.run(after)
    except BaseException:
        for result in race.results:
            discard(result)
        raise
    for late in race.results[1:]:
        discard(late)
    if not race.results:
        raise race.failures[-1]
    return race.results[0]


class _Race(Generic[Result]):
    """Attempts, and what came of them."""

    def __init__(self, route: Route, work: Callable[[], Awaitable[Result]]) -> None:
        self.results: list[Result] = []
        self.failures: list[Exception] = []
        self._route = route
        self._work = work
        self._begun = 0
        self._decided = asyncio.Event()

    async def run(self, after: float) -> None:
        """Until one attempt has a result, or none is left."""
        async with asyncio.TaskGroup() as tasks:
            attempts = [tasks.create_task(self._attempt())]
            try:
                async with asyncio.timeout(after):
                    await self._decided.wait()
            except TimeoutError:
                _logger.info("nothing from %s within %g s: asked once more", self._route.upstream, after)
                UPSTREAM_RETRIES.labels(self._route.upstream).inc()
                attempts.append(tasks.create_task(self._attempt()))
            await self._decided.wait()
            for attempt in attempts:
                attempt.cancel()

    async def _attempt(self) -> None:
        self._begun += 1
        try:
            self.results.append(await self._work())
        except Exception as error:  # noqa: BLE001 - raised by the caller, unless another attempt has a result
            self.failures.append(error)
        if self.results or len(self.failures) == self._begun:
            self._decided.set()
