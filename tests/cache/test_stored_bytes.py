"""Stored bytes that have changed on the disk."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cache.serving import cached, reading, stored_file, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import NodeClient
from tests.fakes.proxy import UPSTREAM, blob, metric
from tests.fakes.registry import ScriptedRegistry
from tests.unit.store.support import replaced_at_first_read

LARGE = Generated(6 * MIB + 3, seed=61)
SMALL = Generated(300_001, seed=62)
TINY = Generated(40_001, seed=63)


def flip(at: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        place = int((path.stat().st_size - 1) * at)
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 0x10]))

    return change


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


DAMAGES = {
    "first bit": flip(0),
    "middle bit": flip(0.5),
    "last bit": flip(1),
    "zeroed": zero,
    "emptied": empty,
    "truncated": truncate,
    "lengthened": lengthen,
    "deleted": Path.unlink,
}


@pytest.fixture(params=[TINY, SMALL, LARGE], ids=["tiny", "small", "large"])
def content(request: pytest.FixtureRequest) -> Generated:
    found: Generated = request.param
    return found


async def assert_heals(node: NodeClient, digest: str, content: Generated, path: Path) -> None:
    """Right bytes or a clean cut; after that, right bytes."""
    first = await node.get(blob(digest), keep_body=False)
    assert first.status == 200
    assert not first.whole or first.sha256 == digest
    assert first.whole or content is LARGE
    again = await node.get(blob(digest), keep_body=False)
    assert (again.status, again.whole, again.sha256) == (200, True, digest)
    assert await asyncio.to_thread(path.read_bytes) == whole(content)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("verify", ["firstRead", pytest.param("always", marks=pytest.mark.slow)])
async def test_after_a_restart_damage_is_found_and_mended(
    plain: ScriptedRegistry, directory: Path, content: Generated, verify: str, damage: str
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    async with cached([plain.url], directory) as node:
        await node.get(blob(digest), keep_body=False)
    path = stored_file(directory, digest)
    DAMAGES[damage](path)
    before = metric("scope_proxy_cache_corruptions_total", stage="read")
    async with cached([plain.url], directory, cache={"verify": verify}) as node:
        await assert_heals(node, digest, content, path)
        assert way(await node.get(blob(digest))) == "hit"
    assert metric("scope_proxy_cache_corruptions_total", stage="read") == before + (damage != "deleted")
    assert len(plain.record.of("blob", "GET")) == 2


@pytest.mark.parametrize("damage", DAMAGES)
async def test_with_verify_always_damage_is_found_at_once(
    plain: ScriptedRegistry, directory: Path, content: Generated, damage: str
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    async with cached([plain.url], directory, cache={"verify": "always"}) as node:
        await node.get(blob(digest), keep_body=False)
        path = stored_file(directory, digest)
        DAMAGES[damage](path)
        await assert_heals(node, digest, content, path)


@pytest.mark.parametrize("verify", ["ingest", "firstRead"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "lengthened", "deleted"])
async def test_another_size_is_noticed_though_the_bytes_are_not_checked_again(
    plain: ScriptedRegistry, directory: Path, content: Generated, verify: str, damage: str
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    async with cached([plain.url], directory, cache={"verify": verify}) as node:
        await node.get(blob(digest), keep_body=False)
        path = stored_file(directory, digest)
        DAMAGES[damage](path)
        await assert_heals(node, digest, content, path)


@pytest.mark.parametrize("damage", ["truncated", "deleted"])
@pytest.mark.parametrize("verify", ["ingest", "firstRead", "always"])
async def test_damage_while_a_client_reads_is_a_clean_cut_or_unnoticed(
    plain: ScriptedRegistry, directory: Path, verify: str, damage: str
) -> None:
    content = Generated(24 * MIB, seed=63)
    digest = plain.add_blob(UPSTREAM, content).digest
    async with cached([plain.url], directory, cache={"verify": verify}) as node:
        await node.get(blob(digest), keep_body=False)
        path = stored_file(directory, digest)
        async with reading(node, blob(digest), 1) as (first, reader, _):
            DAMAGES[damage](path)
            rest = await reader.read(content.size)
            while piece := await reader.read(MIB):
                rest += piece
                if len(rest) == content.size - 1:
                    break
        if damage == "deleted":
            assert first + rest == whole(content)
        else:
            assert whole(content).startswith(first + rest)
        got = await node.get(blob(digest), keep_body=False)
        assert (got.whole, got.sha256) == (True, digest)


@pytest.mark.parametrize("damage", ["first bit", "truncated", "emptied"])
async def test_a_range_of_damaged_bytes_is_right_or_cut(plain: ScriptedRegistry, directory: Path, damage: str) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with cached([plain.url], directory) as node:
        await node.get(blob(digest), keep_body=False)
    DAMAGES[damage](stored_file(directory, digest))
    async with cached([plain.url], directory) as node:
        header = ("Range", f"bytes=10-{LARGE.size - 1}")
        got = await node.get(blob(digest), header)
        assert got.status in {206, 416}
        assert not got.whole or got.body == whole(LARGE)[10:] or got.status == 416
        again = await node.get(blob(digest), header)
        assert again.status == 503 or (again.status, again.body) == (206, whole(LARGE)[10:])


async def test_a_good_file_that_came_while_a_wrong_one_was_checked_stays(
    plain: ScriptedRegistry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with cached([plain.url], directory, cache={"verify": "always"}) as node:
        await node.get(blob(digest), keep_body=False)
        path = stored_file(directory, digest)
        await asyncio.to_thread(zero, path)
        with monkeypatch.context() as patch:
            replaced_at_first_read(patch, path, whole(LARGE))
            await node.get(blob(digest), keep_body=False)
        got = await node.get(blob(digest), keep_body=False)
        assert (got.whole, got.sha256, way(got)) == (True, digest, "hit")
    assert len(plain.record.of("blob", "GET")) == 1, "the good file was dropped, and fetched anew"
