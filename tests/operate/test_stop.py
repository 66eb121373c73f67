"""SIGTERM loses no pull: what is being pulled is pulled to its end, request after request."""

import asyncio
import json
import random
from collections.abc import Mapping

import pytest

from proxy.runtime.stop import AGAIN_SECONDS
from proxy.testbed.answer import BodyContent
from proxy.testbed.images import Image
from tests.cache.serving import reading, rest_of
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import WITHIN, read_answer
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.operate.program import Program

pytestmark = pytest.mark.slow

ROUNDS = 10
PULLS = 5
LAYERS = 4
LAYER = 2 * MIB
LONGEST = 0.8
"""Seconds that one layer takes at the most: a pull is a manifest and four of them, one after the other."""
PAUSE = 0.3
"""Seconds between two requests of one pull, as a node unpacks what it has got."""


async def pull(program: Program, image: Image, layers: Mapping[str, BodyContent], slowness: float) -> list[str]:
    """A node's pull, on a connection for each request, at the node's own speed; what went wrong."""
    wrong = []
    for target, digest in [(manifest(), image.digest), *((blob(digest), digest) for digest in layers)]:
        try:
            async with asyncio.timeout(WITHIN), program.node.opened("GET", target, receive_buffer=65536) as (reader, _):
                await asyncio.sleep(slowness)
                got = await read_answer(reader, "GET", keep_body=False)
        except (OSError, asyncio.IncompleteReadError) as error:
            wrong.append(f"{target}: {type(error).__name__}")
            continue
        if (got.status, got.whole, got.sha256) != (200, True, digest):
            wrong.append(f"{target}: {got.status} {got.reason} {got.size} bytes")
        await asyncio.sleep(PAUSE)
    return wrong


@pytest.mark.timeout(600)  # ten starts and five hundred pulls, on a machine that does other things as well
@pytest.mark.parametrize("workers", [1, 2])
async def test_ten_stops_during_fifty_pulls_fail_none(
    program: Program, registry: ScriptedRegistry, image: Image, workers: int
) -> None:
    chance = random.Random(7)  # noqa: S311 - no secret
    contents = [Generated(LAYER, seed=50 + number) for number in range(LAYERS)]
    layers = {registry.add_blob(UPSTREAM, content).digest: content for content in contents}
    for _ in range(ROUNDS if workers == 1 else 2):
        await program.start(workers)
        async with asyncio.TaskGroup() as tasks:
            pulls = [tasks.create_task(pull(program, image, layers, chance.uniform(0, LONGEST))) for _ in range(PULLS)]
            await asyncio.sleep(chance.uniform(0.1, 2.0))  # anywhere in the pulls is what is meant
            program.terminate()
        assert [wrong for task in pulls for wrong in task.result()] == []
        assert await program.ended() == 0


async def test_followers_of_a_download_in_flight_get_all_of_it(program: Program, registry: ScriptedRegistry) -> None:
    content = Generated(4 * MIB + 3, seed=60)
    digest = registry.add_blob(UPSTREAM, content).digest
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on("GET", "blob").with_header("Authorization"), Stall(MIB, until, reached))
    await program.start()
    async with asyncio.TaskGroup() as tasks:
        pulls = [tasks.create_task(program.node.get(blob(digest), keep_body=False)) for _ in range(4)]
        await reached.wait()
        program.terminate()
        await program.until(lambda: _is_not_ready(program))
        pulls.append(tasks.create_task(program.node.get(blob(digest), keep_body=False)))
        await asyncio.sleep(0)
        until.set()
    assert {(task.result().status, task.result().sha256) for task in pulls} == {(200, digest)}
    assert await program.ended() == 0


async def test_a_second_signal_ends_it_at_once(program: Program, registry: ScriptedRegistry) -> None:
    digest = registry.add_blob(UPSTREAM, Generated(16 * MIB, seed=61)).digest
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on("GET", "blob").with_header("Authorization"), Stall(MIB, until, reached))
    await program.start()
    async with reading(program.node, blob(digest), 1024) as (_, reader, _):
        await reached.wait()
        program.terminate()
        await program.until(lambda: _is_not_ready(program))
        await asyncio.sleep(AGAIN_SECONDS + 0.1)  # sooner it would be the same signal, sent to a whole group
        program.terminate()
        assert await program.ended() == 0
        assert len(await rest_of(reader)) < 16 * MIB - 1024
    until.set()


async def test_a_request_that_waits_when_the_program_ends_is_logged_as_cut_by_that(
    program: Program, registry: ScriptedRegistry
) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on(kind="manifest").with_header("Authorization"), Stall(BEFORE_HEADERS, until, reached))
    program.document["timeouts"] = {"shutdownGrace": "200ms", "drainIdle": "0s"}
    await program.start()
    async with asyncio.timeout(WITHIN), program.node.opened("GET", manifest("by-nobody")) as (reader, _):
        await reached.wait()
        program.terminate()
        assert await program.ended() == 0
        assert await rest_of(reader) == b""
    until.set()
    [line] = [line for line in program.log().splitlines() if '"aborted": "' in line and "by-nobody" in line]
    written = json.loads(line)
    assert (written["status"], written["aborted"]) == (499, "shutdown")


async def _is_not_ready(program: Program) -> bool:
    return "shutting down" in program.log()
