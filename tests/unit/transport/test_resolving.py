"""Names are looked up in threads of their own, each once at a time, and only so many."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from proxy.transport.addresses import NAMED_LOOKUPS, JudgingResolver, NameLookups, Network, TooManyLookups

ADDRESS = "8.8.8.8"


@dataclass(slots=True)
class System:
    """The system's resolver, which answers when it is let."""

    open: threading.Event = field(default_factory=threading.Event)
    hosts: list[str] = field(default_factory=list)

    def getaddrinfo(self, host: str, port: int, *_: object) -> list[object]:
        self.hosts.append(host)
        assert self.open.wait(20)
        if host == "nowhere":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ADDRESS, port))]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    made = System()
    monkeypatch.setattr("socket.getaddrinfo", made.getaddrinfo)
    return made


@pytest.fixture
async def lookups(system: System) -> AsyncIterator[NameLookups]:
    made = NameLookups()
    yield made
    system.open.set()
    await made.close()


async def test_several_that_want_one_name_share_its_lookup(lookups: NameLookups, system: System) -> None:
    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(lookups.resolve("one", 443)) for _ in range(5)]
        await asyncio.sleep(0)
        system.open.set()
    assert system.hosts == ["one"]
    assert {task.result()[0]["host"] for task in found} == {ADDRESS}
    await lookups.resolve("one", 443)
    assert system.hosts == ["one", "one"]


async def test_who_leaves_ends_nobody_elses_lookup(lookups: NameLookups, system: System) -> None:
    async with asyncio.TaskGroup() as tasks:
        leaves = tasks.create_task(lookups.resolve("one", 443))
        stays = tasks.create_task(lookups.resolve("one", 443))
        await asyncio.sleep(0)
        leaves.cancel()
        system.open.set()
    [found] = stays.result()
    assert (found["hostname"], found["host"], found["port"]) == ("one", ADDRESS, 443)


async def test_a_name_that_does_not_exist_is_an_error_of_all_who_want_it(lookups: NameLookups, system: System) -> None:
    system.open.set()
    for outcome in await asyncio.gather(*(lookups.resolve("nowhere") for _ in range(3)), return_exceptions=True):
        assert isinstance(outcome, socket.gaierror)


async def test_threads_of_the_event_loop_that_hang_keep_no_name(lookups: NameLookups, system: System) -> None:
    system.open.set()
    end, loop = threading.Event(), asyncio.get_running_loop()
    for _ in range(64):
        loop.run_in_executor(None, end.wait, 20)
    try:
        assert (await lookups.resolve("one"))[0]["host"] == ADDRESS
    finally:
        end.set()


async def test_more_names_than_there_are_threads_are_refused_at_once(system: System) -> None:
    lookups = NameLookups(limit=3)
    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(lookups.resolve(name))
        await asyncio.sleep(0)
        with pytest.raises(TooManyLookups):
            await lookups.resolve("d")
        system.open.set()
    assert (await lookups.resolve("d"))[0]["host"] == ADDRESS
    await lookups.close()


async def test_names_of_one_upstream_leave_threads_for_those_of_others(lookups: NameLookups, system: System) -> None:
    hostile, other = (JudgingResolver(frozenset({Network.PUBLIC}), lookups) for _ in range(2))
    async with asyncio.TaskGroup() as tasks:
        for number in range(NAMED_LOOKUPS):
            tasks.create_task(hostile.resolve(f"name{number}", 443))
        await asyncio.sleep(0)
        with pytest.raises(TooManyLookups):
            await hostile.resolve("one-more", 443)
        found = tasks.create_task(other.resolve("good", 443))
        system.open.set()
    assert found.result()[0]["host"] == ADDRESS
    assert (await hostile.resolve("one-more", 443))[0]["host"] == ADDRESS
