"""A disk that is full or broken: pulls go past it, are counted, and the cache recovers by itself."""

import asyncio
import errno
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.images import Image
from tests.cache.serving import BLOB, block_index, cached, eventually, stored_file, unfinished, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import DropHeader
from tests.fakes.client import NodeClient
from tests.fakes.proxy import AT_ONCE, UPSTREAM, blob, manifest, metric
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(10 * MIB + 17, seed=91)
POSITIONS = 40
ERRNOS = {"enospc": errno.ENOSPC, "eio": errno.EIO, "erofs": errno.EROFS, "edquot": errno.EDQUOT}


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def broken(patch: pytest.MonkeyPatch, name: str, number: int, when: Callable[..., bool] = lambda *_: True) -> None:
    """Let a call of the operating system fail on the cache's files."""
    real = getattr(os, name)

    def call(*arguments: Any, **more: Any) -> Any:
        if when(*arguments):
            raise fail(number)
        return real(*arguments, **more)

    patch.setattr(os, name, call)


def writes() -> float:
    return sum(metric("scope_proxy_cache_write_errors_total", reason=reason) for reason in (*ERRNOS, "emfile", "other"))


async def assert_pulls(node: NodeClient, digest: str, clients: int = 3) -> list[str | None]:
    """Several clients at once get right bytes, whole and in a range; how they were served."""
    async with asyncio.TaskGroup() as tasks:
        pulls = [tasks.create_task(node.get(blob(digest), keep_body=False)) for _ in range(clients)]
        part = tasks.create_task(node.get(blob(digest), ("Range", f"bytes={3 * MIB}-{5 * MIB}")))
    assert {(pull.result().status, pull.result().whole, pull.result().sha256) for pull in pulls} == {
        (200, True, digest)
    }
    assert (part.result().status, part.result().body) == (206, whole(LARGE)[3 * MIB : 5 * MIB + 1])
    return [way(pull.result()) for pull in pulls]


@pytest.mark.parametrize(
    "position",
    [
        position if position % 5 == 0 else pytest.param(position, marks=pytest.mark.slow)
        for position in range(POSITIONS)
    ],
)
async def test_a_disk_that_gets_full_in_the_middle_fails_no_pull(
    node: NodeClient, plain: ScriptedRegistry, directory: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    number = list(ERRNOS.values())[position % len(ERRNOS)]
    limit = LARGE.size * position // POSITIONS
    before = writes()
    with monkeypatch.context() as patch:
        broken(patch, "pwritev", number, lambda _fd, pieces, offset: offset + sum(map(len, pieces)) > max(limit, 64))
        await assert_pulls(node, digest)
    assert writes() > before
    await eventually(lambda: not unfinished(directory))
    assert way(await node.get(blob(digest), keep_body=False)) == "miss"
    assert way(await node.get(blob(digest), keep_body=False)) == "hit"


@pytest.mark.parametrize("call", ["fsync", "rename", "open", "replace", "mkdir", "unlink"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE])
async def test_whatever_call_fails_the_pull_does_not(
    node: NodeClient,
    plain: ScriptedRegistry,
    directory: Path,
    image: Image,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    with monkeypatch.context() as patch:
        is_path = call in {"rename", "open", "replace", "mkdir", "unlink"}
        broken(patch, call, number, lambda first, *_: not is_path or str(first).startswith(str(directory)))
        await assert_pulls(node, digest)
        for _ in range(2):
            assert (await node.get(manifest())).body == image.manifest
    for _ in range(2):
        assert (await node.get(blob(digest), keep_body=False)).sha256 == digest
    assert way(await node.get(blob(digest), keep_body=False)) == "hit"
    for _ in range(2):
        assert (await node.get(manifest())).body == image.manifest
    assert way(await node.get(manifest())) == "hit"
    assert not [name for name in unfinished(directory) if name.endswith(".part")]


async def test_an_index_that_cannot_be_opened_fails_no_pull(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with cached([plain.url], directory) as node:
        await asyncio.to_thread(block_index, directory)
        await assert_pulls(node, digest)
        assert (await node.get(manifest())).body == image.manifest
        assert (await node.head(blob(digest))).header("Content-Length") == str(LARGE.size)
    await asyncio.to_thread((directory / "index.sqlite").rmdir)
    async with cached([plain.url], directory) as node:
        await node.get(blob(digest), keep_body=False)
        assert way(await node.get(blob(digest), keep_body=False)) == "hit"


@pytest.mark.parametrize("verify", ["ingest", "firstRead", "always"])
async def test_stored_bytes_that_cannot_be_read_are_fetched(
    plain: ScriptedRegistry, directory: Path, monkeypatch: pytest.MonkeyPatch, verify: str
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with cached([plain.url], directory) as node:
        await node.get(blob(digest), keep_body=False)
    async with cached([plain.url], directory, cache={"verify": verify}) as node:
        with monkeypatch.context() as patch:
            broken(patch, "pread", errno.EIO)
            broken(patch, "sendfile", errno.EIO)
            got = await node.get(blob(digest), keep_body=False)
            assert got.sha256 == digest or not got.whole
            again = await node.get(blob(digest), keep_body=False)
            assert again.sha256 == digest or not again.whole
        for _ in range(2):
            got = await node.get(blob(digest), keep_body=False)
            assert (got.whole, got.sha256) == (True, digest)


async def test_a_corrupt_file_that_cannot_be_removed_is_passed_over(
    plain: ScriptedRegistry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Generated(300_000, seed=92)
    digest = plain.add_blob(UPSTREAM, small).digest
    async with cached([plain.url], directory) as node:
        await node.get(blob(digest))
    stored_file(directory, digest).write_bytes(bytes(small.size))
    broken(monkeypatch, "unlink", errno.EROFS, lambda path, *_: str(path).startswith(str(directory)))
    broken(monkeypatch, "pwrite", errno.EROFS)
    broken(monkeypatch, "pwritev", errno.EROFS)
    async with cached([plain.url], directory) as node:
        for _ in range(3):
            got = await node.get(blob(digest))
            assert (got.status, got.sha256) == (200, digest)


@pytest.mark.parametrize("kind", ["a file", "below a file"])
async def test_a_directory_that_cannot_be_used_lets_everything_pass(
    plain: ScriptedRegistry, tmp_path: Path, image: Image, kind: str
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with cached([plain.url], file if kind == "a file" else file / "cache") as node:
        for _ in range(2):
            assert (await node.get(manifest())).body == image.manifest
            assert (await node.head(manifest())).header("Docker-Content-Digest") == image.digest
            assert set(await assert_pulls(node, digest)) == {"bypass"}


async def test_a_disk_without_room_costs_no_second_request(plain: ScriptedRegistry, directory: Path) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    async with cached([plain.url], directory, cache={"reserveFree": "900Ti"}) as node:
        got = await node.get(blob(digest), keep_body=False)
        assert (got.status, got.sha256, way(got)) == (200, digest, "bypass")
    assert len(plain.record.of("blob", "GET")) == 1


async def test_a_body_of_unknown_size_stays_within_the_bounds_while_it_comes(
    plain: ScriptedRegistry, directory: Path
) -> None:
    tuning = replace(AT_ONCE, recheck_step=MIB)
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB, DropHeader("Content-Length"))
    before = writes()
    async with cached([plain.url], directory, cache={"maxSize": "4Mi"}, tuning=tuning) as node:
        async with asyncio.TaskGroup() as tasks:
            pulls = [tasks.create_task(node.get(blob(digest), keep_body=False)) for _ in range(3)]
        assert {(pull.result().status, pull.result().sha256) for pull in pulls} == {(200, digest)}
        await eventually(lambda: not unfinished(directory))
        assert not list((directory / "blobs").glob("*/*/*"))
        assert writes() > before
    first, *others = [entry.headers.get("range") for entry in plain.record.of("blob")]
    assert first is None
    begins = [int(str(item).removeprefix("bytes=").partition("-")[0]) for item in others]
    assert all(4 * MIB <= begin < LARGE.size for begin in begins), begins


@pytest.mark.slow
async def test_a_cache_ten_times_too_small_fails_nothing_under_load(plain: ScriptedRegistry, directory: Path) -> None:
    contents = [Generated(MIB + seed * 4099, seed=seed) for seed in range(20)]
    digests = [plain.add_blob(UPSTREAM, content).digest for content in contents]
    chance = random.Random(3)  # noqa: S311 - no secret

    async def pull(node: NodeClient) -> None:
        for digest in chance.choices(digests, k=15):
            got = await node.get(blob(digest), keep_body=False)
            assert (got.status, got.whole, got.sha256) == (200, True, digest)

    async with cached([plain.url], directory, cache={"maxSize": "2Mi"}) as node:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(pull(node))
        size = sum(path.stat().st_size for path in (directory / "blobs").rglob("*") if path.is_file())
        assert size <= 2 * MIB + max(content.size for content in contents)
