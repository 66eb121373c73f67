import asyncio
import random

import pytest

from proxy.transport.limits import (
    CLIENT,
    QUEUE_LIMIT,
    CountedHostLimit,
    HostLimit,
    HostPlace,
    QueueFull,
    Requesters,
    Size,
)
from tests.fakes.proxy import metric

SMALL, LARGE = Size.SMALL, Size.LARGE
UPSTREAM = "limited.example"


class Visitors:
    """Tasks that hold a place until they are released."""

    def __init__(self, gate: HostLimit, group: asyncio.TaskGroup) -> None:
        self.gate = gate
        self.inside: list[str] = []
        self.refused: list[str] = []
        self._group = group
        self._leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, size: Size, client: str = "") -> None:
        self._leave[name] = asyncio.Event()
        CLIENT.set(client)
        self.tasks[name] = self._group.create_task(self._visit(name, size))
        await settle()

    async def go(self, name: str) -> None:
        self._leave[name].set()
        await settle()

    async def _visit(self, name: str, size: Size) -> None:
        try:
            async with CountedHostLimit(self.gate, UPSTREAM).admitted(size):
                self.inside.append(name)
                await self._leave[name].wait()
        except QueueFull:
            self.refused.append(name)


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def is_free(gate: HostLimit, limit: int) -> bool:
    """Whether all places can be had, and no more."""
    if repr(gate) != f"0 of {limit} in flight, 0 waiting":
        return False
    async with asyncio.timeout(10):
        places = [await gate.acquire(SMALL) for _ in range(limit)]
    full = repr(gate) == f"{limit} of {limit} in flight, 0 waiting"
    for place in places:
        place.release()
    return full


async def test_small_ones_go_ahead_of_large_ones_that_waited_longer() -> None:
    gate = HostLimit(2)
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        await visitors.come("blob 1", LARGE)
        await visitors.come("manifest 1", SMALL)
        await visitors.come("blob 2", LARGE)
        await visitors.come("blob 3", LARGE)
        await visitors.come("manifest 2", SMALL)
        assert visitors.inside == ["blob 1", "manifest 1"]
        assert repr(gate) == "2 of 2 in flight, 3 waiting"
        await visitors.go("blob 1")
        assert visitors.inside[2:] == ["manifest 2"]
        await visitors.go("manifest 1")
        assert visitors.inside[3:] == ["blob 2"]
        for name in ("blob 2", "manifest 2", "blob 3"):
            await visitors.go(name)
        assert visitors.inside[4:] == ["blob 3"]
    assert await is_free(gate, 2)


@pytest.mark.parametrize(("limit", "large"), [(1, 1), (2, 1), (4, 3), (32, 24)])
async def test_large_ones_leave_a_quarter_free(limit: int, large: int) -> None:
    gate = HostLimit(limit)
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        for number in range(limit):
            await visitors.come(f"blob {number}", LARGE)
        assert len(visitors.inside) == large
        for number in range(limit - large):
            await visitors.come(f"manifest {number}", SMALL)
        assert len(visitors.inside) == limit
        for name in list(visitors.tasks):
            await visitors.go(name)
    assert await is_free(gate, limit)


async def test_beyond_the_queues_limit_it_fails_at_once() -> None:
    gate = HostLimit(1, queue_limit=2)
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        for name in ("inside", "waiting 1", "waiting 2"):
            await visitors.come(name, SMALL)
        with pytest.raises(QueueFull):
            await gate.acquire(SMALL)
        visitors.tasks["waiting 1"].cancel()
        await settle()
        await visitors.come("waiting 3", SMALL)  # who leaves the queue makes room in it
        for name in ("inside", "waiting 2", "waiting 3"):
            await visitors.go(name)
        assert visitors.inside == ["inside", "waiting 2", "waiting 3"]
    assert await is_free(gate, 1)


async def test_many_blobs_that_wait_keep_no_manifest_out() -> None:
    gate = HostLimit(1, queue_limit=1)
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        for name, size in (("inside", SMALL), ("blob", LARGE), ("manifest", SMALL)):
            await visitors.come(name, size)
        for name in ("inside", "manifest", "blob"):
            await visitors.go(name)
        assert visitors.inside == ["inside", "manifest", "blob"]


async def test_an_error_inside_gives_the_place_back() -> None:
    gate = HostLimit(1)
    with pytest.raises(ValueError, match="broken"):
        async with CountedHostLimit(gate, UPSTREAM).admitted(LARGE):
            raise ValueError("broken")
    assert await is_free(gate, 1)


async def test_who_is_admitted_and_cancelled_at_once_gives_the_place_on() -> None:
    gate = HostLimit(1)
    first = await gate.acquire(SMALL)
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        await visitors.come("second", SMALL)
        await visitors.come("third", SMALL)
        first.release()  # admits the second, which has not run yet
        visitors.tasks["second"].cancel()
        await settle()
        assert visitors.inside == ["third"]
        await visitors.go("third")
    assert visitors.tasks["second"].cancelled()
    assert await is_free(gate, 1)


@pytest.mark.parametrize("seed", range(10))
async def test_no_place_is_lost_however_many_waiters_are_cancelled(seed: int) -> None:
    choice = random.Random(seed)  # noqa: S311 - a repeatable test, no secret
    limit = choice.choice([1, 2, 3, 8])
    gate = HostLimit(limit)
    inside = {SMALL: 0, LARGE: 0}
    most = {SMALL: 0, LARGE: 0}

    async def visit(size: Size) -> None:
        async with CountedHostLimit(gate, UPSTREAM).admitted(size):
            inside[size] += 1
            most[size] = max(most[size], inside[size])
            assert sum(inside.values()) <= limit
            try:
                for _ in range(choice.randrange(3)):
                    await asyncio.sleep(0)
            finally:
                inside[size] -= 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(300):
            tasks.append(group.create_task(visit(choice.choice([SMALL, LARGE]))))
            if choice.random() < 0.5:
                choice.choice(tasks).cancel()
            if choice.random() < 0.3:
                await asyncio.sleep(0)
    assert 0 < most[LARGE] <= max(limit * 3 // 4, 1)
    assert await is_free(gate, limit)


def counted() -> tuple[float, float]:
    """Requests of the upstream that are inside, and that wait."""
    inside, waiting = (f"scope_proxy_upstream_{name}" for name in ("in_flight", "queue"))
    return metric(inside, upstream=UPSTREAM), metric(waiting, upstream=UPSTREAM)


async def test_who_is_inside_and_who_waits_is_counted_for_the_upstream() -> None:
    assert counted() == (0, 0)
    gate = HostLimit(1)
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        for name in ("first", "second", "third"):
            await visitors.come(name, SMALL)
        assert counted() == (1, 2)
        visitors.tasks["third"].cancel()
        await visitors.go("first")
        assert counted() == (1, 0)
        await visitors.go("second")
    assert counted() == (0, 0)


async def test_clients_are_admitted_in_turn_and_each_ones_requests_in_order() -> None:
    gate = HostLimit(1)
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        for name, client in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c")):
            await visitors.come(name, SMALL, client)
        for _ in range(6):
            await visitors.go(visitors.inside[-1])
        assert visitors.inside == ["a1", "a2", "b1", "c1", "a3", "b2"]
    assert await is_free(gate, 1)


async def test_a_client_that_holds_places_waits_for_those_that_hold_none() -> None:
    gate = HostLimit(2)
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        for name, client in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")):
            await visitors.come(name, SMALL, client)
        await visitors.go("a1")
        await visitors.go("b1")  # a2 goes on for long
        assert visitors.inside == ["a1", "a2", "b1", "c1"]
        for name in ("a2", "c1", "a3"):
            await visitors.go(name)
    assert await is_free(gate, 2)


@pytest.mark.parametrize("size", Size)
async def test_a_full_queue_admits_a_client_that_has_less_of_it(size: Size) -> None:
    gate = HostLimit(1)
    flood = [f"a{number}" for number in range(QUEUE_LIMIT + 1)]
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        for name in flood:
            await visitors.come(name, size, "a")
        for name in ("b1", "b2"):
            await visitors.come(name, size, "b")
        assert visitors.refused == [flood[-1], flood[-2]]
        await visitors.come("a", size, "a")
        assert visitors.refused[2:] == ["a"]
        served = [flood[0], flood[1], "b1", flood[2], "b2", *flood[3:-2]]
        for name in served:
            await visitors.go(name)
    assert visitors.inside == served
    assert await is_free(gate, 1)


async def test_work_that_is_shared_has_the_turns_of_all_who_wait_for_it() -> None:
    gate = HostLimit(1)
    requesters = Requesters("a")
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        for name in ("a1", "a2", "a3"):
            await visitors.come(name, SMALL, "a")
        requesters.bind()
        await visitors.come("shared", SMALL)
        requesters.include(Requesters("b"))
        await visitors.go("a1")
        await visitors.go("a2")
        assert visitors.inside == ["a1", "a2", "shared"]
        for name in ("shared", "a3"):
            await visitors.go(name)
    assert await is_free(gate, 1)


async def test_one_place_is_reclaimed_for_each_request_that_waits() -> None:
    gate = HostLimit(3)
    places: list[HostPlace] = [await gate.acquire(SMALL) for _ in range(3)]
    assert [place.reclaim() for place in places] == [False, False, False]
    async with asyncio.TaskGroup() as group:
        visitors = Visitors(gate, group)
        await visitors.come("waits", SMALL)
        assert [place.reclaim() for place in places] == [True, False, False]
        assert places[0].reclaim()  # it stays so
        places[0].release()
        await settle()
        assert visitors.inside == ["waits"]
        assert [place.reclaim() for place in places[1:]] == [False, False]
        await visitors.go("waits")
    for place in places[1:]:
        place.release()
    assert await is_free(gate, 3)


async def test_who_joins_work_that_has_its_place_already_holds_up_nobody() -> None:
    gate, requesters = HostLimit(2), Requesters("a")

    async def shared() -> HostPlace:
        requesters.bind()
        return await gate.acquire(SMALL)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        places = [await gate.acquire(SMALL) for _ in range(2)]
        admitted = group.create_task(shared())
        await settle()
        for place in places:
            place.release()
        requesters.include(Requesters("b"))  # before the one that was admitted goes on
        place = await gate.acquire(SMALL)  # there is another one
        place.release()
        (await admitted).release()
    assert await is_free(gate, 2)
