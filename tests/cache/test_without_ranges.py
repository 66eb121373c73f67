"""Servers that take no ranges send a blob from its beginning again: what is there already is passed over.

That may take long, as any body may: what bounds it is that bytes come, not the time for the head of an answer.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.layout import Layout
from tests.cache.serving import BLOB, cached
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Body, DropHeader, IgnoreRange, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Cut, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.scripted import Fault

LARGE = Generated(9 * MIB + 7, seed=241)
OTHER = f"sha256:{'0' * 64}"
TIMES = {"blob": "600ms", "stall": "20s", "shutdownGrace": "200ms"}


@pytest.fixture
def digest(plain: ScriptedRegistry) -> str:
    return plain.add_blob(UPSTREAM, LARGE).digest


@pytest.fixture(params=["uncached", "cached"])
async def near(request: pytest.FixtureRequest, plain: ScriptedRegistry, directory: Path) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy that waits for the head of an answer for a short time, and long for bytes."""
    cache = {"cache": {"path": str(directory), "reserveFree": "1Mi"}} if request.param == "cached" else {}
    async with started(settings([plain.url], timeouts=TIMES, **cache)) as proxy:
        yield proxy.node


@pytest.fixture
def slow(plain: ScriptedRegistry, never: Stall) -> Stall:
    """Sends nothing for a while in the middle of what is passed over."""
    plain.script(on("HEAD", "blob", reference=OTHER), never)
    return Stall(2 * MIB, asyncio.Event(), asyncio.Event())


async def over_budget(node: NodeClient, slow: Stall) -> None:
    """Let the slow answer go on, once another request has used up its time since it began to be slow."""
    assert slow.reached is not None
    await slow.reached.wait()
    assert (await node.head(blob(OTHER))).status == 504
    slow.until.set()


@pytest.mark.parametrize("more", [(), (DropHeader("Content-Length"),)], ids=["length", "no length"])
async def test_a_broken_body_goes_on_however_long_it_takes_to_get_there(
    near: NodeClient, plain: ScriptedRegistry, digest: str, slow: Stall, more: tuple[Fault, ...]
) -> None:
    plain.script(BLOB.nth(1), Cut(7 * MIB))
    plain.script(BLOB.starting(2), IgnoreRange(), slow, *more)
    async with asyncio.TaskGroup() as tasks:
        pull = tasks.create_task(near.get(blob(digest), keep_body=False))
        await over_budget(near, slow)
    assert (pull.result().status, pull.result().whole, pull.result().sha256) == (200, True, digest)
    assert len(plain.record.of("blob", "GET")) == 2


async def test_so_it_is_past_a_disk_that_gets_full(
    plain: ScriptedRegistry, directory: Path, digest: str, slow: Stall, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.script(BLOB.starting(2), IgnoreRange(), slow)
    real = os.pwritev

    def full(descriptor: int, pieces: list[memoryview], offset: int) -> int:
        if offset > 5 * MIB:
            raise OSError(errno.ENOSPC, "no space left")
        return real(descriptor, pieces, offset)

    monkeypatch.setattr(os, "pwritev", full)
    async with cached([plain.url], directory, timeouts=TIMES) as node, asyncio.TaskGroup() as tasks:
        pull = tasks.create_task(node.get(blob(digest), keep_body=False))
        await over_budget(node, slow)
    assert (pull.result().status, pull.result().whole, pull.result().sha256) == (200, True, digest)


async def test_what_an_interrupted_writer_left_is_sent_while_it_is_passed_over(
    plain: ScriptedRegistry, directory: Path, digest: str, slow: Stall
) -> None:
    plain.script(BLOB, IgnoreRange(), slow)
    async with cached([plain.url], directory, timeouts=TIMES) as node:
        Layout(directory).part(Digest.parse(digest)).write_bytes(b"".join(LARGE.pieces(0, 7 * MIB)))
        async with asyncio.TaskGroup() as tasks:
            pull = tasks.create_task(node.get(blob(digest), keep_body=False))
            await over_budget(node, slow)
    assert (pull.result().status, pull.result().whole, pull.result().sha256) == (200, True, digest)
    [resumed] = plain.record.of("blob", "GET")  # a response that has begun is not requested again
    assert resumed.headers["range"] == f"bytes={7 * MIB}-"


@pytest.mark.parametrize("more", [(), (DropHeader("Content-Length"),)], ids=["length", "no length"])
async def test_a_body_that_ends_before_that_place_is_not_whole(
    near: NodeClient, plain: ScriptedRegistry, digest: str, more: tuple[Fault, ...]
) -> None:
    plain.script(BLOB.nth(1), DropHeader("Content-Length"), Cut(7 * MIB))
    short = Body(b"".join(LARGE.pieces(0, 6 * MIB)))
    plain.script(BLOB.nth(2), IgnoreRange(), short, *more)
    plain.script(BLOB.starting(3), Reply(500))
    got = await near.get(blob(digest), keep_body=False)
    assert (got.status, got.whole) == (200, False)
