"""One download for each digest, however many ask."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from tests.cache.serving import BLOB, cached, reading, rest_of, unfinished, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import DropHeader, Reply
from tests.fakes.client import WITHIN, Got, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Stall
from tests.fakes.proxy import UPSTREAM, blob, metric
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(8 * MIB + 5, seed=21)
SMALL = Generated(300_001, seed=22)
CLIENTS = 12


@pytest.mark.parametrize("has_length", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "small"])
async def test_many_clients_of_a_cold_blob_cost_one_download(
    node: NodeClient, plain: ScriptedRegistry, content: Generated, has_length: bool
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    until, reached = asyncio.Event(), asyncio.Event()
    changes = () if has_length else (DropHeader("Content-Length"),)
    plain.script(BLOB, *changes, Stall(content.size // 2, until, reached))
    async with asyncio.TaskGroup() as tasks:
        requests = [tasks.create_task(node.get(blob(digest), keep_body=False)) for _ in range(CLIENTS)]
        await reached.wait()
        requests += [tasks.create_task(node.get(blob(digest), keep_body=False)) for _ in range(CLIENTS)]
        await asyncio.sleep(0)
        until.set()
    answers = [request.result() for request in requests]
    assert {(got.status, got.whole, got.sha256) for got in answers} == {(200, True, digest)}
    assert len(plain.record.of("blob")) == 1
    assert [way(got) for got in answers].count("miss") == 1
    assert {way(got) for got in answers} <= {"miss", "join", "hit"}
    assert way(await node.get(blob(digest))) == "hit"


async def test_followers_get_what_has_arrived_before_the_rest_is_there(
    node: NodeClient, plain: ScriptedRegistry
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB, Stall(3 * MIB, until))
    before = metric("scope_proxy_coalesced_waiters")
    async with (
        reading(node, blob(digest), 3 * MIB) as (first, first_reader, _),
        reading(node, blob(digest), 3 * MIB) as (other, other_reader, _),
        reading(node, blob(digest), MIB, ("Range", f"bytes={MIB}-{4 * MIB}")) as (part, part_reader, _),
    ):
        assert metric("scope_proxy_coalesced_waiters") == before + 2
        assert metric("scope_proxy_downloads_in_flight") == 1
        until.set()
        data = whole(LARGE)
        assert first + await first_reader.readexactly(LARGE.size - 3 * MIB) == data
        assert other + await other_reader.readexactly(LARGE.size - 3 * MIB) == data
        assert part + await part_reader.readexactly(2 * MIB + 1) == data[MIB : 4 * MIB + 1]
    assert len(plain.record.of("blob")) == 1


async def test_a_head_during_a_download_asks_nobody(node: NodeClient, plain: ScriptedRegistry) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB, Stall(3 * MIB, until))
    async with reading(node, blob(digest), MIB) as (_, reader, _):
        got = await node.head(blob(digest))
        assert (got.status, got.header("Content-Length")) == (200, str(LARGE.size))
        until.set()
        await reader.readexactly(LARGE.size - MIB)
    assert len(plain.record.of("blob")) == 1


async def test_a_client_slower_than_the_writer_gets_all(node: NodeClient, plain: ScriptedRegistry) -> None:
    content = Generated(24 * MIB, seed=23)
    digest = plain.add_blob(UPSTREAM, content).digest
    async with reading(node, blob(digest), 1) as (first, reader, _):
        assert (await node.get(blob(digest), keep_body=False)).sha256 == digest
        rest = await reader.readexactly(content.size - 1)
    assert f"sha256:{hashlib.sha256(first + rest).hexdigest()}" == digest
    assert len(plain.record.of("blob")) == 1


async def test_an_empty_blob(node: NodeClient, plain: ScriptedRegistry) -> None:
    digest = plain.add_blob(UPSTREAM, Generated(0)).digest
    for expected in ("miss", "hit"):
        got = await node.get(blob(digest))
        assert (got.status, got.body, got.header("Content-Length"), way(got)) == (200, b"", "0", expected)


async def test_a_blob_with_a_sha512_digest(node: NodeClient, plain: ScriptedRegistry, directory: Path) -> None:
    data = whole(LARGE)
    digest = f"sha512:{hashlib.sha512(data).hexdigest()}"
    plain.library.repository(UPSTREAM).blobs[digest] = LARGE
    for expected in ("miss", "hit"):
        got = await node.get(blob(digest))
        assert (got.status, got.body == data, way(got)) == (200, True, expected)
    assert len(plain.record.of("blob")) == 1
    assert not unfinished(directory)


@pytest.mark.parametrize("how", ["cut", "reset", "stall"])
async def test_an_upstream_that_breaks_is_continued_under_followers(
    plain: ScriptedRegistry, directory: Path, never: Stall, how: str
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until, reached = asyncio.Event(), asyncio.Event()
    fault = Stall(3 * MIB, never.until) if how == "stall" else Cut(3 * MIB, reset=how == "reset")
    plain.script(BLOB.nth(1), Stall(MIB, until, reached), fault)
    times = {"stall": "500ms" if how == "stall" else "30s"}
    async with cached([plain.url], directory, timeouts=times) as node, asyncio.TaskGroup() as tasks:
        requests = [tasks.create_task(node.get(blob(digest), keep_body=False)) for _ in range(CLIENTS)]
        await reached.wait()
        until.set()
    assert {(got.result().whole, got.result().sha256) for got in requests} == {(True, digest)}
    ranges = [entry.headers.get("range") for entry in plain.record.of("blob")]
    assert (len(ranges), ranges[0]) == (2, None)
    assert how == "reset" or ranges[1] == f"bytes={3 * MIB}-{LARGE.size - 1}"


async def test_what_breaks_off_at_one_endpoint_goes_on_at_the_next(
    plain: ScriptedRegistry, second: ScriptedRegistry, directory: Path
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    second.add_blob(UPSTREAM, LARGE)
    plain.script(BLOB, Cut(3 * MIB))
    async with cached([plain.url, second.url], directory) as node:
        got = await node.get(blob(digest), keep_body=False)
    assert (got.whole, got.sha256) == (True, digest)
    assert [entry.headers.get("range") for entry in second.record.of("blob")] == [f"bytes={3 * MIB}-{LARGE.size - 1}"]


async def test_what_cannot_be_continued_is_cut_for_all_and_leaves_nothing(
    node: NodeClient, plain: ScriptedRegistry, directory: Path
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    plain.script(BLOB.nth(1), Stall(2 * MIB, until), Cut(2 * MIB))
    plain.script(BLOB.times(3), Reply(404))
    async with reading(node, blob(digest), MIB) as (_, one, _), reading(node, blob(digest), MIB) as (_, other, _):
        until.set()
        assert MIB <= len(await rest_of(one)) < LARGE.size - MIB
        assert MIB <= len(await rest_of(other)) < LARGE.size - MIB
    assert not unfinished(directory)
    plain.behave()
    got = await node.get(blob(digest), keep_body=False)
    assert (got.sha256, way(got)) == (digest, "miss")


async def test_who_joins_what_fails_before_it_begins_gets_the_reason(node: NodeClient, plain: ScriptedRegistry) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until, reached = asyncio.Event(), asyncio.Event()
    plain.script(BLOB, Stall(BEFORE_HEADERS, until, reached), Reply(403))
    answers: list[Got] = []

    async def ask() -> None:
        answers.append(await node.get(blob(digest)))

    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(ask())
        await reached.wait()
        until.set()
    assert {(got.status, got.code) for got in answers} == {(403, "DENIED")}
