"""The budget of a request ends the wait, not the fetch."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from proxy.testbed.images import Image
from tests.cache.serving import BLOB, block_index, cached, eventually, in_time, way
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, manifest, metric
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(6 * MIB, seed=81)
SMALL = Generated(100_001, seed=82)


@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("place", [BEFORE_HEADERS, 50_000])
async def test_a_blob_that_is_late_is_504_and_the_next_try_has_it(
    plain: ScriptedRegistry, directory: Path, content: Generated, place: int
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    until = asyncio.Event()
    plain.script(BLOB, Stall(place, until))
    late = content is SMALL or place == BEFORE_HEADERS
    times = {"blob": "300ms" if late else "30s"}
    async with cached([plain.url], directory, timeouts=times) as node, asyncio.TaskGroup() as tasks:
        if late:
            got = await node.get(blob(digest))
            assert (got.status, got.code, "try again" in got.reason) == (504, "UNAVAILABLE", True)
            assert got.header("Retry-After")
            assert got.error["detail"]["upstream"].startswith(plain.url)
        following = tasks.create_task(in_time(node, blob(digest)))
        until.set()
        got = await following
        assert (got.status, got.sha256, way(got) in {"join", "hit", "miss"}) == (200, digest, True)
    # Without headers it is requested once more; the first response sends the bytes.
    assert len(plain.record.of("blob", "GET")) in ({1, 2} if place == BEFORE_HEADERS else {1})


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_a_manifest_that_is_late_is_504_and_the_next_try_has_it(
    plain: ScriptedRegistry, directory: Path, image: Image, never: Stall, method: str, by: str
) -> None:
    """The answer of the first request is lost, and the second one has it."""
    target = manifest() if by == "tag" else manifest(image.digest)
    plain.script(on(kind="manifest").nth(1), never)
    async with cached([plain.url], directory, timeouts={"manifest": "300ms"}) as node:
        assert (await node.send(method, target)).status == 504
        got = await in_time(node, target, method)
        assert (got.status, got.header("Docker-Content-Digest")) == (200, image.digest)
    methods = [entry.method for entry in plain.record.of("manifest")]
    first = "GET" if by == "digest" else "HEAD"
    assert methods == [first, first, *(["GET"] if by == "tag" and method == "GET" else [])]


async def test_a_fetch_that_never_begins_ends_after_its_time(
    plain: ScriptedRegistry, directory: Path, never: Stall
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.times(2), never)
    cache = {"fetchTimeout": "500ms"}
    async with cached([plain.url], directory, timeouts={"blob": "200ms"}, cache=cache) as node:
        assert (await node.get(blob(digest))).status == 504
        await eventually(lambda: metric("scope_proxy_downloads_in_flight") == 0)
        requests = len(plain.record.of("blob"))
        got = await in_time(node, blob(digest))
        assert (got.status, got.sha256) == (200, digest)
    assert len(plain.record.of("blob")) > requests


@pytest.mark.parametrize("kind", ["manifest", "blob"])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_wait_that_the_upstream_asks_for_beyond_the_budget_is_reported_at_once(
    plain: ScriptedRegistry, directory: Path, image: Image, kind: str, status: int
) -> None:
    plain.script(on(), Reply(status, headers={"Retry-After": "40"}))
    async with cached([plain.url], directory, timeouts={"manifest": "20s", "blob": "20s"}) as node:
        got = await node.get(manifest() if kind == "manifest" else blob(next(iter(image.blobs))))
    assert (got.status, got.header("Retry-After")) == (503, "40")
    assert len(plain.record.all()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_passes_through_after_trouble_of_the_store_has_what_is_left_of_the_time(
    plain: ScriptedRegistry, directory: Path, never: Stall, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It ends before a request that began when a third of its time was over, and two thirds before the trouble."""
    digest, other = (plain.add_blob(UPSTREAM, Generated(500_000, seed=seed)).digest for seed in (83, 84))
    until, reached = asyncio.Event(), asyncio.Event()
    plain.script(on(method, "blob", reference=digest).nth(1), Stall(BEFORE_HEADERS, until, reached))
    plain.script(on(method, "blob", reference=digest).starting(2), never)
    plain.script(on(method, "blob", reference=other), never)
    plain.script(on(kind="manifest"), never)

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "disk I/O error")

    ended: list[str] = []

    async def pull(node: NodeClient, wanted: str) -> None:
        assert (await node.send(method, blob(wanted))).status == 504
        ended.append(wanted)

    times = {"blob": "3s", "manifest": "1s"}
    async with cached([plain.url], directory, timeouts=times) as node, asyncio.TaskGroup() as tasks:
        if method == "HEAD":
            await asyncio.to_thread(block_index, directory)
        else:
            monkeypatch.setattr(os, "pwritev", refuse)
        tasks.create_task(pull(node, digest))
        await reached.wait()
        assert (await node.get(manifest())).status == 504  # a second has passed
        tasks.create_task(pull(node, other))
        assert (await node.get(manifest())).status == 504
        until.set()
    assert ended == [digest, other]
    assert len(plain.record.of("blob", method)) >= 3
