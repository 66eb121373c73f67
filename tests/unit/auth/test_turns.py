"""Whose turn it is: addresses one after the other, and names with fewer failed logins first."""

import asyncio
from dataclasses import dataclass, field

from proxy.auth.inward.turns import FAILED_SECONDS, MAX_WAITING, TooManyWaiting, Turns
from tests.unit.auth.support import Clock

HERE, THERE, ELSEWHERE = "192.0.2.1", "192.0.2.2", "192.0.2.3"


@dataclass(slots=True)
class Queue:
    """Turns for one at a time, the first of which is taken; who had the others, in their order."""

    group: asyncio.TaskGroup
    waiting_limit: int = MAX_WAITING
    clock: Clock = field(default_factory=Clock)
    had: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        self.turns = Turns(1, self.clock, self.waiting_limit)

    async def wait(self, *waiting: tuple[str, str]) -> list[asyncio.Task[None]]:
        """Let these wait, in this order."""
        tasks = [self.group.create_task(self._take(address, name)) for address, name in waiting]
        await settle()
        return tasks

    async def _take(self, address: str, name: str) -> None:
        try:
            await self.turns.take(address, name)
        except TooManyWaiting:
            self.refused.append(f"{address[-1]}{name}")
        else:
            self.had.append(f"{address[-1]}{name}")

    async def all(self, count: int) -> list[str]:
        """Give so many turns; who had them."""
        for _ in range(count):
            self.turns.give_back()
            await settle()
        return self.had


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_that_waits_alone_has_every_turn() -> None:
    async with asyncio.TaskGroup() as group:
        queue = Queue(group)
        await queue.turns.take(HERE, "a")
        await queue.wait(*[(HERE, "a")] * 5)
        assert await queue.all(5) == ["1a"] * 5


async def test_addresses_take_turns_however_many_each_has_waiting() -> None:
    async with asyncio.TaskGroup() as group:
        queue = Queue(group)
        await queue.turns.take(HERE, "a")
        await queue.wait(*[(HERE, "a")] * 5, (THERE, "b"), (THERE, "b"), (ELSEWHERE, "c"))
        assert await queue.all(8) == ["1a", "2b", "3c", "1a", "2b", "1a", "1a", "1a"]


async def test_names_of_an_address_take_turns() -> None:
    async with asyncio.TaskGroup() as group:
        queue = Queue(group)
        await queue.turns.take(HERE, "a")
        await queue.wait(*[(HERE, "a")] * 3, (HERE, "b"), (HERE, "b"))
        assert await queue.all(5) == ["1a", "1b", "1a", "1b", "1a"]


async def test_names_with_fewer_failed_logins_go_first_for_a_while() -> None:
    async with asyncio.TaskGroup() as group:
        queue = Queue(group)
        await queue.turns.take(HERE, "a")
        for _ in range(2):
            queue.turns.count_failed(HERE, "a")
        queue.turns.count_failed(HERE, "b")
        await queue.wait((HERE, "a"), (HERE, "b"), (HERE, "c"), (THERE, "a"))
        assert await queue.all(4) == ["1c", "2a", "1b", "1a"]
        queue.had.clear()
        queue.clock.now += FAILED_SECONDS
        await queue.wait((HERE, "a"), (HERE, "b"))
        assert await queue.all(2) == ["1a", "1b"]


async def test_who_leaves_takes_no_turn_with_it() -> None:
    async with asyncio.TaskGroup() as group:
        queue = Queue(group)
        await queue.turns.take(HERE, "a")
        first, second, _ = await queue.wait((HERE, "a"), (HERE, "b"), (THERE, "c"))
        first.cancel()
        await settle()
        second.cancel()
        queue.turns.give_back()  # in the same turn of the loop
        await settle()
        assert queue.had == ["2c"]
        await queue.wait((HERE, "d"))
        assert await queue.all(1) == ["2c", "1d"]
        queue.turns.give_back()
        await queue.turns.take(HERE, "e")


async def test_who_leaves_with_a_turn_gives_it_back() -> None:
    async with asyncio.TaskGroup() as group:
        queue = Queue(group)
        await queue.turns.take(HERE, "a")
        first, _ = await queue.wait((HERE, "a"), (THERE, "b"))
        queue.turns.give_back()
        first.cancel()
        await settle()
        assert queue.had == ["2b"]


async def test_the_newest_of_the_address_with_the_most_is_refused() -> None:
    async with asyncio.TaskGroup() as group:
        queue = Queue(group, waiting_limit=4)
        await queue.turns.take(HERE, "a")
        await queue.wait((HERE, "a"), (HERE, "b"), (HERE, "b"), (THERE, "c"))
        await queue.wait((HERE, "b"))
        assert queue.refused == ["1b"]
        await queue.wait((ELSEWHERE, "d"))
        assert queue.refused == ["1b", "1b"]
        assert await queue.all(4) == ["1a", "2c", "3d", "1b"]
