"""Clients that leave: the download is the application's, not theirs."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.cache.serving import BLOB, cached, eventually, reading, unfinished, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.proxy import UPSTREAM, blob, metric
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(8 * MIB, seed=31)
ROUNDS = 10
AT_ONCE = 20


@pytest.mark.parametrize("finish", [True, False])
async def test_the_first_leaves_and_the_others_notice_nothing(
    plain: ScriptedRegistry, directory: Path, finish: bool
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB, Stall(3 * MIB, until))
    before = metric("scope_proxy_http_aborted_total", reason="client_gone")
    async with cached([plain.url], directory, cache={"finishAbandoned": finish}) as node:
        async with (
            reading(node, blob(digest), MIB) as (_, _, first),
            reading(node, blob(digest), 2 * MIB) as (beginning, reader, _),
        ):
            first.transport.abort()
            await eventually(lambda: metric("scope_proxy_http_aborted_total", reason="client_gone") == before + 1)
            until.set()
            rest = await reader.readexactly(LARGE.size - 2 * MIB)
        assert beginning + rest == whole(LARGE)
        assert way(await node.get(blob(digest))) == "hit"
    assert len(plain.record.of("blob")) == 1


async def test_what_all_have_left_is_finished(node: NodeClient, plain: ScriptedRegistry, directory: Path) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB, Stall(3 * MIB, until))
    before = metric("scope_proxy_http_aborted_total", reason="client_gone")
    async with reading(node, blob(digest), MIB) as (_, _, one), reading(node, blob(digest), MIB) as (_, _, other):
        one.transport.abort()
        other.transport.abort()
        await eventually(lambda: metric("scope_proxy_http_aborted_total", reason="client_gone") == before + 2)
    until.set()
    await eventually(lambda: metric("scope_proxy_downloads_in_flight") == 0)
    assert not unfinished(directory)
    got = await node.get(blob(digest), keep_body=False)
    assert (got.sha256, way(got)) == (digest, "hit")
    assert len(plain.record.of("blob")) == 1


async def test_what_all_have_left_ends_where_that_is_wanted(plain: ScriptedRegistry, directory: Path) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB.nth(1), Stall(3 * MIB, until))
    async with cached([plain.url], directory, cache={"finishAbandoned": False}) as node:
        async with reading(node, blob(digest), MIB) as (_, _, one), reading(node, blob(digest), MIB) as (_, _, other):
            one.transport.abort()
            other.transport.abort()
        await eventually(lambda: metric("scope_proxy_downloads_in_flight") == 0)
        assert not unfinished(directory)
        got = await node.get(blob(digest), keep_body=False)
        assert (got.sha256, way(got)) == (digest, "miss")
    assert len(plain.record.of("blob")) == 2
    until.set()


@pytest.mark.slow
@pytest.mark.parametrize("finish", [True, False])
async def test_200_first_clients_leave_and_nobody_else_fails(
    plain: ScriptedRegistry, directory: Path, finish: bool
) -> None:
    """Each leaves at another place, some before the first byte; another client has joined by then, or comes later."""
    chance = random.Random(7)  # noqa: S311 - no secret
    contents = [Generated(MIB // 2 + seed, seed=seed) for seed in range(AT_ONCE)]

    async def leave(node: NodeClient, digest: str, take: int) -> None:
        async with node.opened("GET", blob(digest)) as (reader, writer):
            if take:
                await reader.readexactly(take)
            writer.transport.abort()

    for number in range(ROUNDS):
        digests = [plain.add_blob(UPSTREAM, content).digest for content in contents]
        async with cached([plain.url], directory / str(number), cache={"finishAbandoned": finish}) as node:
            async with asyncio.TaskGroup() as tasks:
                for digest in digests:
                    tasks.create_task(leave(node, digest, chance.choice([0, 10, 1000, MIB // 4])))
                joined = [tasks.create_task(node.get(blob(digest), keep_body=False)) for digest in digests]
            assert [got.result().sha256 for got in joined] == digests
            assert {got.result().whole for got in joined} == {True}
            await eventually(lambda: metric("scope_proxy_downloads_in_flight") == 0)
        assert not unfinished(directory / str(number))
