"""One task, many waiters: the one place where a task is started that its caller may leave."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Background:
    """Tasks that belong to the application; closing cancels them and waits for their end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run the work, held by a strong reference until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever waits for the task gets it, and nobody may be waiting

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


class SingleFlight(Generic[Key, Result]):
    """Runs the work of a key once at a time; all who ask meanwhile get its result or its error.

    A waiter that is cancelled leaves the work running for the others, and for who comes next.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._flights: dict[Key, asyncio.Task[Result]] = {}

    def is_flying(self, key: Key) -> bool:
        """Whether the work of this key is under way."""
        return key in self._flights

    async def run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result of the key's work, started here if nobody has."""
        return await asyncio.shield(self.launch(key, work))

    def launch(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Awaitable[Result]:
        """Start the key's work if nobody has, without waiting for it."""
        task = self._flights.get(key)
        if task is None:
            task = self._background.start(work())
            self._flights[key] = task
            task.add_done_callback(lambda _: self._flights.pop(key, None))
        return task
