"""Stored objects that change on the disk: found before a client takes them for right, and fetched again."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.demo.images import make_image
from tests.crash.origin import Origin, Thing
from tests.crash.program import Program
from tests.crash.transfer import Tally, Transfer
from tests.fakes.proxy import UPSTREAM

KIB = 1024
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
    await asyncio.gather(*(client.finish() for client in clients))


def is_right(proxy: Program, thing: Thing) -> bool:
    return f"sha256:{hashlib.sha256(proxy.stored(thing).read_bytes()).hexdigest()}" == thing.digest


async def spoil(
    proxy: Program, victim: Thing, way: Callable[[Path, random.Random], None], chance: random.Random
) -> None:
    file = proxy.stored(victim)
    before = file.read_bytes()
    while file.exists() and file.read_bytes() == before:  # zeros may have been zeros before
        await asyncio.to_thread(way, file, chance)


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_corruption_under_load_with_verify_always(
    origin: Origin,
    program: Callable[..., Program],
    amount: Callable[[int, int], int],
    chance: random.Random,
    figures: Callable[..., None],
) -> None:
    proxy, tally, corruptions = program(verify="always"), Tally(), amount(100, 2000)
    victims = [origin.blob(size) for size in SIZES]
    others = [origin.blob(size) for size in SIZES]
    await proxy.start()
    for thing in victims:
        await Transfer(proxy.address, thing, tally).finish()
    fetched = {thing: origin.gets(thing) for thing in victims}
    async with load(proxy, others, tally):
        for number in range(corruptions):
            victim, way = chance.choice(victims), WAYS[number % len(WAYS)]
            await spoil(proxy, victim, way, chance)
            await pull_by_many(proxy, victim, tally, chance)
            tally.assert_clean()
            assert is_right(proxy, victim), way.__name__
            fetched[victim] += 1
    assert {thing: origin.gets(thing) for thing in victims} == fetched
    figures(corruptions=corruptions, fetched_again=corruptions, **tally.counts())


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_corruption_before_a_restart_with_verify_first_read(
    origin: Origin,
    program: Callable[..., Program],
    amount: Callable[[int, int], int],
    chance: random.Random,
    figures: Callable[..., None],
) -> None:
    proxy, tally, rounds, spoiled = program(verify="firstRead"), Tally(), amount(10, 200), 0
    image = make_image(UPSTREAM, "1", {"file": b"x" * 5000})
    victims = [*(origin.blob(size) for size in SIZES for _ in range(2)), origin.manifest(image)]
    await proxy.start()
    for thing in victims:
        await Transfer(proxy.address, thing, tally).finish()
    for _ in range(rounds):
        await proxy.stop()
        chosen = chance.sample(victims, 10)
        before = {thing: origin.gets(thing) for thing in chosen}
        for thing in chosen:
            await spoil(proxy, thing, WAYS[spoiled % len(WAYS)], chance)
            spoiled += 1
        await proxy.start()
        await asyncio.gather(*(pull_by_many(proxy, thing, tally, chance) for thing in chosen))
        tally.assert_clean()
        assert all(is_right(proxy, thing) for thing in chosen)
        assert {thing: origin.gets(thing) - before[thing] for thing in chosen} == dict.fromkeys(chosen, 1)
    figures(corruptions=spoiled, restarts=rounds, **tally.counts())


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_corruption_with_two_workers(
    origin: Origin,
    program: Callable[..., Program],
    amount: Callable[[int, int], int],
    chance: random.Random,
    figures: Callable[..., None],
) -> None:
    proxy, tally, corruptions = program(workers=2, verify="always"), Tally(), amount(20, 400)
    victim = origin.blob(4200 * KIB)
    await proxy.start()
    await Transfer(proxy.address, victim, tally).finish()
    for number in range(corruptions):
        await spoil(proxy, victim, WAYS[number % len(WAYS)], chance)
        await pull_by_many(proxy, victim, tally, chance)
        tally.assert_clean()
    figures(corruptions=corruptions, **tally.counts())
