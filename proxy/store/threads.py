"""Work in threads that outlives nobody: whoever is cancelled waits for its end first."""

import asyncio
import functools
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def to_the_end(work: Callable[[], _Result], undo: Callable[[_Result], None] | None = None) -> _Result:
    """The result of `work`, run in a thread; when cancelled, wait for it all the same and undo it.

    A write that went on while its file is closed could hit another file that got the same descriptor, and an open
    file that nobody gets would stay open for good.
    """
    future = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as error:
        if future.cancelled():  # the threads are shut down, or `work` has raised it
            raise
        cancelled = error
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:  # it may come more than once
            cancelled = error
    if future.exception() is None and undo is not None:
        await to_the_end(functools.partial(undo, future.result()))
    raise cancelled
