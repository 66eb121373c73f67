"""One task, many waiters: the one place where a task is started that its caller may leave."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from proxy.transport.clock import UpstreamTime, context_of, joined
from proxy.transport.limits import Requesters

_logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Background:
    """Tasks that belong to the application; closing cancels them and waits for their end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result], context: Context | None = None) -> asyncio.Task[Result]:
        """Run the work, held by a strong reference until it ends; an exception that ends it is logged."""
        task = self.start_awaited(work, context)
        task.add_done_callback(_log_death)
        return task

    def start_awaited(self, work: Coroutine[Any, Any, Result], context: Context | None = None) -> asyncio.Task[Result]:
        """Run the work as `start` does; whoever waits for the task handles its exception."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drained(self) -> None:
        """Wait until all that runs has ended, what it starts included."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Cancel what runs and wait until it has ended."""
        while tasks := list(self._tasks):  # what ends may start more
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _log_death(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _logger.error("a bug: the background task %s has died", _name(task), exc_info=error)


def _name(task: asyncio.Task[Any]) -> str:
    """The function that a task runs."""
    return getattr(task.get_coro(), "__qualname__", task.get_name())


@dataclass(frozen=True, slots=True)
class _Flight(Generic[Result]):
    task: asyncio.Task[Result]
    time: UpstreamTime
    requesters: Requesters


class SingleFlight(Generic[Key, Result]):
    """Runs the work of a key once at a time; all who wait for it meanwhile get its result or its error.

    A waiter that is cancelled leaves the work running for the others, and for who comes next. While the work is with
    an upstream, so are all who wait for it; in fair queues it waits for the turn of any of them.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._flights: dict[Key, _Flight[Result]] = {}
        self._waiters: Counter[asyncio.Task[Result]] = Counter()

    def is_flying(self, key: Key) -> bool:
        """Whether the work of this key is under way."""
        return key in self._flights

    async def run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result of the key's work, started here if nobody has."""
        flight = self._launched(key, work)
        task = flight.task
        self._waiters[task] += 1
        try:
            with joined(flight.time):
                return await asyncio.shield(task)
        finally:
            self._waiters[task] -= 1
            if not self._waiters[task]:
                del self._waiters[task]
            # The task keeps its exception, and that the frames which it comes through: this one must not keep the task.
            del flight, task

    def launch(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Awaitable[Result]:
        """Start the key's work if nobody has, without waiting for it."""
        return self._launched(key, work).task

    def _launched(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> _Flight[Result]:
        flight = self._flights.get(key)
        if flight is not None:
            flight.requesters.include(Requesters.current())
            return flight
        time = UpstreamTime()
        context = context_of(time)
        requesters = Requesters()
        requesters.include(Requesters.current())
        context.run(requesters.bind)
        flight = self._flights[key] = _Flight(self._background.start_awaited(work(), context), time, requesters)
        flight.task.add_done_callback(lambda ended: self._end(key, ended))
        return flight

    def _end(self, key: Key, task: asyncio.Task[Result]) -> None:
        self._flights.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._waiters[task]:
            what, kind = _name(task), type(error).__name__
            _logger.warning("%s failed after everybody who waited for it had left: %s: %s", what, kind, error)
