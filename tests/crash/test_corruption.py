"""Stored objects that change on the disk: found before a client takes them for right, and fetched again."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.testbed.images import make_image
from tests.crash.lab import KIB, TIMEOUT, Lab
from tests.crash.origin import Thing
from tests.crash.program import Program
from tests.crash.transfer import Tally, Transfer, finish_all
from tests.fakes.proxy import UPSTREAM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]

SIZES = (3 * KIB, 300 * KIB, 1024 * KIB, 1024 * KIB + 1, 4200 * KIB)
"""On both sides of what is verified before its first byte."""
LOADERS = 4
CLIENTS = 4


def flip_bit(file: Path, chance: random.Random) -> None:
    with file.open("r+b") as content:
        at = chance.randrange(file.stat().st_size)
        content.seek(at)
        byte = content.read(1)[0]
        content.seek(at)
        content.write(bytes([byte ^ (1 << chance.randrange(8))]))


def truncate(file: Path, chance: random.Random) -> None:
    with file.open("r+b") as content:
        content.truncate(chance.randrange(file.stat().st_size))


def zero(file: Path, chance: random.Random) -> None:
    size = file.stat().st_size
    with file.open("r+b") as content:
        content.seek(chance.randrange(size))
        content.write(bytes(min(4 * KIB, size - content.tell())))


def delete(file: Path, chance: random.Random) -> None:  # noqa: ARG001 - one shape for all
    file.unlink()


WAYS = (flip_bit, truncate, zero, delete)


async def start_holding(proxy: Program, things: list[Thing], tally: Tally) -> None:
    """Start it, and pull each thing once, so that it is stored."""
    await proxy.start()
    for thing in things:
        await Transfer(proxy.address, thing, tally).finish()


@asynccontextmanager
async def load(proxy: Program, things: list[Thing], tally: Tally) -> AsyncIterator[None]:
    """Clients that pull all the time, things that nobody harms."""
    ended = asyncio.Event()

    async def pull(number: int) -> None:
        while not ended.is_set():
            number += 1
            await Transfer(proxy.address, things[number % len(things)], tally).finish()

    async with asyncio.TaskGroup() as tasks:
        for number in range(LOADERS):
            tasks.create_task(pull(number))
        try:
            yield
        finally:
            ended.set()


async def pull_by_many(proxy: Program, thing: Thing, tally: Tally, chance: random.Random) -> None:
    """Whole and in part, all at once."""
    parts = [chance.randrange(1, thing.size)] if "/blobs/" in thing.target else []
    clients = [Transfer(proxy.address, thing, tally, first=first) for first in (*(CLIENTS * [0]), *parts)]
    await finish_all(clients)


def is_right(proxy: Program, thing: Thing) -> bool:
    return f"sha256:{hashlib.sha256(proxy.stored(thing).read_bytes()).hexdigest()}" == thing.digest


async def spoil(
    proxy: Program, victim: Thing, way: Callable[[Path, random.Random], None], chance: random.Random
) -> None:
    file = proxy.stored(victim)
    before = file.read_bytes()
    while file.exists() and file.read_bytes() == before:  # zeros may have been zeros before
        await asyncio.to_thread(way, file, chance)


async def test_corruption_under_load_with_verify_always(lab: Lab) -> None:
    proxy, tally, corruptions = lab.program(verify="always"), Tally(), lab.amount(100, 2000)
    victims = [lab.origin.blob(size) for size in SIZES]
    others = [lab.origin.blob(size) for size in SIZES]
    await start_holding(proxy, victims, tally)
    fetched = {thing: lab.origin.gets(thing) for thing in victims}
    async with load(proxy, others, tally):
        for number in range(corruptions):
            victim, way = lab.chance.choice(victims), WAYS[number % len(WAYS)]
            await spoil(proxy, victim, way, lab.chance)
            await pull_by_many(proxy, victim, tally, lab.chance)
            tally.assert_clean()
            assert is_right(proxy, victim), way.__name__
            fetched[victim] += 1
    assert {thing: lab.origin.gets(thing) for thing in victims} == fetched
    lab.figures(corruptions=corruptions, fetched_again=corruptions, **tally.counts())


async def test_corruption_before_a_restart_with_verify_first_read(lab: Lab) -> None:
    proxy, tally, rounds, spoiled = lab.program(verify="firstRead"), Tally(), lab.amount(10, 200), 0
    image = make_image(UPSTREAM, "1", {"file": b"x" * 5000})
    victims = [*(lab.origin.blob(size) for size in SIZES for _ in range(2)), lab.origin.manifest(image)]
    await start_holding(proxy, victims, tally)
    for _ in range(rounds):
        await proxy.stop()
        chosen = lab.chance.sample(victims, 10)
        before = {thing: lab.origin.gets(thing) for thing in chosen}
        for thing in chosen:
            await spoil(proxy, thing, WAYS[spoiled % len(WAYS)], lab.chance)
            spoiled += 1
        await proxy.start()
        await asyncio.gather(*(pull_by_many(proxy, thing, tally, lab.chance) for thing in chosen))
        tally.assert_clean()
        assert all(is_right(proxy, thing) for thing in chosen)
        assert {thing: lab.origin.gets(thing) - before[thing] for thing in chosen} == dict.fromkeys(chosen, 1)
    lab.figures(corruptions=spoiled, restarts=rounds, **tally.counts())


async def test_corruption_with_two_workers(lab: Lab) -> None:
    proxy, tally, corruptions = lab.program(workers=2, verify="always"), Tally(), lab.amount(20, 400)
    victim = lab.origin.blob(4200 * KIB)
    await start_holding(proxy, [victim], tally)
    for number in range(corruptions):
        await spoil(proxy, victim, WAYS[number % len(WAYS)], lab.chance)
        await pull_by_many(proxy, victim, tally, lab.chance)
        tally.assert_clean()
    lab.figures(corruptions=corruptions, **tally.counts())
