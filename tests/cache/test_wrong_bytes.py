"""An upstream that sends wrong bytes: they are never stored and never completed to a client."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.testbed.answer import Bytes
from proxy.testbed.images import Image
from tests.cache.serving import BLOB, HELD_BACK, cached, reading, rest_of, unfinished, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import DropHeader, FlipByte, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.proxy import AT_ONCE, UPSTREAM, blob, manifest, metric
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(6 * MIB + 3, seed=51)
SMALL = Generated(300_001, seed=52)
PLACES = {"first": 0, "middle": LARGE.size // 2, "last": LARGE.size - 1}


def stored(directory: Path) -> list[Path]:
    return [path for path in (directory / "blobs").rglob("*") if path.is_file()]


def corruptions() -> float:
    return metric("scope_proxy_cache_corruptions_total", stage="ingest")


@pytest.mark.parametrize("where", ["first", "middle", "last"])
async def test_a_small_blob_is_fetched_anew_before_anything_is_sent(
    node: NodeClient, plain: ScriptedRegistry, where: str
) -> None:
    digest = plain.add_blob(UPSTREAM, SMALL).digest
    plain.script(BLOB.nth(1), FlipByte(PLACES[where] * SMALL.size // LARGE.size))
    before = corruptions()
    got = await node.get(blob(digest))
    assert (got.status, got.whole, got.sha256) == (200, True, digest)
    assert corruptions() == before + 1
    assert len(plain.record.of("blob")) == 2


async def test_a_small_blob_that_stays_wrong_is_502_and_not_stored(
    node: NodeClient, plain: ScriptedRegistry, directory: Path
) -> None:
    digest = plain.add_blob(UPSTREAM, SMALL).digest
    plain.script(BLOB, FlipByte())
    async with asyncio.TaskGroup() as tasks:
        requests = [tasks.create_task(node.get(blob(digest))) for _ in range(8)]
    assert {(got.result().status, got.result().code) for got in requests} == {(502, "DIGEST_INVALID")}
    assert not stored(directory)
    assert not unfinished(directory)


@pytest.mark.parametrize("headers", [(), (("Range", "bytes=1000-"),)], ids=["whole", "range"])
async def test_what_was_sent_right_gets_its_tail_from_the_second_download(
    node: NodeClient, plain: ScriptedRegistry, headers: tuple[tuple[str, str], ...]
) -> None:
    """The last bytes are wrong, which are held back: nobody has seen them."""
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until, reached = asyncio.Event(), asyncio.Event()
    plain.script(BLOB.nth(1), FlipByte("last"), Stall(4 * MIB, until, reached))
    before = corruptions()
    async with asyncio.TaskGroup() as tasks:
        requests = [tasks.create_task(node.get(blob(digest), *headers)) for _ in range(6)]
        await reached.wait()
        until.set()
    expected = whole(LARGE)[1000 if headers else 0 :]
    assert all(got.result().whole and got.result().body == expected for got in requests)
    assert corruptions() == before + 1
    assert len(plain.record.of("blob")) == 2
    assert way(await node.get(blob(digest))) == "hit"


@pytest.mark.parametrize("stays", [False, True], ids=["once", "always"])
@pytest.mark.parametrize("has_length", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize("where", ["first", "middle"])
async def test_who_was_sent_wrong_bytes_is_cut_and_no_tail_is_served_for_a_while(
    node: NodeClient, plain: ScriptedRegistry, directory: Path, where: str, has_length: bool, stays: bool
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    until, place = asyncio.Event(), 5 * MIB  # beyond 4 MiB, so that also without a length it can be no manifest
    changes = () if has_length else (DropHeader("Content-Length"),)
    plain.script(BLOB if stays else BLOB.nth(1), FlipByte(PLACES[where]), Stall(place, until), *changes)
    async with reading(node, blob(digest), place - HELD_BACK) as (beginning, reader, _):
        assert beginning != whole(LARGE)[: len(beginning)]
        until.set()
        rest = await rest_of(reader)
    assert not rest.endswith(b"0\r\n\r\n")
    assert len(beginning) + len(rest) < LARGE.size
    part = await node.get(blob(digest), ("Range", "bytes=5000-"))
    assert (part.status, part.code, part.header("Retry-After")) == (503, "UNAVAILABLE", "60")
    assert (await node.get(blob(digest), ("Range", "bytes=-10"))).status == 503
    got = await node.get(blob(digest), keep_body=False)
    if stays:
        assert not got.whole
        assert not stored(directory)
    else:
        assert (got.whole, got.sha256) == (True, digest)


async def test_wrong_bytes_of_one_endpoint_are_fetched_from_the_next(
    plain: ScriptedRegistry, second: ScriptedRegistry, directory: Path
) -> None:
    digests = [server.add_blob(UPSTREAM, content).digest for server in (plain, second) for content in (SMALL, LARGE)]
    plain.script(BLOB, FlipByte("last"))
    async with cached([plain.url, second.url], directory) as node:
        for digest in set(digests):
            got = await node.get(blob(digest), keep_body=False)
            assert (got.status, got.whole, got.sha256) == (200, True, digest)
    assert len(second.record.of("blob")) == 2


async def test_a_page_in_place_of_a_blob_is_never_a_blob(node: NodeClient, plain: ScriptedRegistry) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB, Reply(200, b"<html>"))
    got = await node.get(blob(digest))
    assert (got.status, got.code) == (502, "DIGEST_INVALID")


async def test_with_verified_delivery_no_byte_goes_out_before_all_are_right(
    plain: ScriptedRegistry, directory: Path
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.times(2), FlipByte("last"))
    async with cached([plain.url], directory, cache={"delivery": "verified"}) as node:
        wrong = await node.get(blob(digest))
        assert (wrong.whole, wrong.size) == (False, 0)
        right = await node.get(blob(digest), ("Range", "bytes=7-"))
        assert (right.status, right.whole, right.body) == (206, True, whole(LARGE)[7:])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("order", [("manifest", "blob"), ("blob", "manifest"), ("manifest", "restart", "blob")])
async def test_the_digest_of_a_manifest_is_no_blob(
    plain: ScriptedRegistry, directory: Path, image: Image, order: tuple[str, ...], method: str
) -> None:
    plain.library.repository(UPSTREAM).blobs[image.digest] = Bytes(image.manifest)  # as Artifactory does
    statuses = []
    for lap in " ".join(order).split(" restart "):
        async with cached([plain.url], directory) as node:
            for kind in (*lap.split(), *lap.split()):
                target = blob(image.digest) if kind == "blob" else manifest(image.digest)
                got = await node.send(method, target)
                statuses.append((kind, got.status))
    assert set(statuses) == {("manifest", 200), ("blob", 404)}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_digest_of_a_manifest_is_no_blob_though_its_kind_was_forgotten(
    plain: ScriptedRegistry, directory: Path, image: Image, method: str
) -> None:
    plain.library.repository(UPSTREAM).blobs[image.digest] = Bytes(image.manifest)  # as Artifactory does
    others = [plain.add_blob(UPSTREAM, Generated(size, seed=53)).digest for size in (100, 101)]
    async with cached([plain.url], directory, tuning=replace(AT_ONCE, known_manifests=1)) as node:
        for _ in range(4):
            got = await node.send(method, blob(image.digest))
            assert got.status == 404
            assert image.manifest not in got.body
            for other in others:
                assert (await node.get(blob(other))).status == 200
    assert len(plain.record.of("blob", "GET")) == 3
