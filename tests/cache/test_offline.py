"""`cache.offline`: what is stored is served whatever its age, and nothing is requested of any upstream."""

import asyncio
import errno
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.images import Image, make_image, sha256
from proxy.testbed.tokens import Rules
from tests.cache.serving import cached, stored_file, way
from tests.fakes.client import NodeClient, read_answer
from tests.fakes.proxy import NAME, REG, UPSTREAM, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

OFFLINE = {"offline": True, "tagAge": "0s"}
NOWHERE = ("http://registry.invalid:5000",)
"""An endpoint whose name would have to be looked up first."""
OCTOBER = time.time() - 120 * 86400
BIG = 70 * 1024 * 1024

_watchers: list[list[tuple[str, Any]]] = []
_hook_is_added: list[bool] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watchers and event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        _watchers[-1].append((event, arguments[1] if event == "socket.connect" else arguments[0]))


@contextmanager
def outgoing() -> Iterator[list[tuple[str, Any]]]:
    """Every connection and name lookup of this process, as the interpreter itself reports them."""
    if not _hook_is_added:
        sys.addaudithook(_audit)
        _hook_is_added.append(True)
    seen: list[tuple[str, Any]] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


async def filled(plain: ScriptedRegistry, directory: Path, image: Image, reference: str = "1") -> None:
    """A cache that has the image."""
    async with cached([plain.url], directory) as node:
        assert (await node.get(manifest(reference))).body == image.manifest
        for digest, content in image.blobs.items():
            assert (await node.get(blob(digest))).body == content


def strangers(seen: list[tuple[str, Any]], node: NodeClient) -> list[tuple[str, Any]]:
    """What does not go from the test's own node to the proxy."""
    return [(event, where) for event, where in seen if event != "socket.connect" or where[1] != node.port]


async def test_no_socket_to_an_upstream_is_opened_and_no_name_is_looked_up(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    await filled(plain, directory, image)
    unknown = sha256(b"unknown")
    with outgoing() as seen:
        async with cached(NOWHERE, directory, cache=OFFLINE) as node:
            assert (await node.get(manifest())).body == image.manifest
            assert (await node.head(manifest())).status == 200
            assert (await node.get(manifest(image.digest))).body == image.manifest
            for digest, content in image.blobs.items():
                assert (await node.get(blob(digest))).body == content
            for target in (
                manifest("2"),
                manifest(unknown),
                blob(unknown),
                manifest("1", "library/other"),
                f"/v2/{NAME}/tags/list?ns={REG}",
                f"/v2/{NAME}/referrers/{image.digest}?ns={REG}",
            ):
                assert (await node.get(target)).status == 404, target
                assert (await node.head(target)).status in {404, 405}, target
            assert seen  # the node's own connections are seen: the hook works
            assert strangers(seen, node) == []


@pytest.mark.parametrize("reference", ["2", sha256(b"unknown")])
async def test_an_unknown_image_is_404_with_the_reason_offline(
    plain: ScriptedRegistry, directory: Path, image: Image, reference: str
) -> None:
    await filled(plain, directory, image)
    async with cached([plain.url], directory, cache=OFFLINE) as node:
        before = len(plain.record.all())
        got = await node.get(manifest(reference))
        assert (got.status, got.code) == (404, "MANIFEST_UNKNOWN")
        assert got.reason.startswith(f"offline: {REG}/{NAME} manifests/{reference[:20]}")
        assert "cache import" in got.error["detail"]["hint"]
        assert len(plain.record.all()) == before


async def test_an_unknown_blob_is_404_with_the_reason_offline(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    await filled(plain, directory, image)
    digest = sha256(b"unknown")
    async with cached([plain.url], directory, cache=OFFLINE) as node:
        got = await node.get(blob(digest))
        assert (got.status, got.code) == (404, "BLOB_UNKNOWN")
        assert got.reason.startswith("offline: ")
        assert (await node.head(blob(digest))).status == 404


async def test_an_unknown_image_that_is_imported_a_moment_later_is_served(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    """That it was unknown is not remembered: an import beside the running proxy counts at once."""
    async with cached([plain.url], directory, cache={**OFFLINE, "negativeAge": "1h"}) as node:
        assert (await node.get(manifest())).status == 404
        assert (await node.get(manifest(image.digest))).status == 404
        await filled(plain, directory, image)
        assert (await node.get(manifest())).body == image.manifest
        assert (await node.get(manifest(image.digest))).body == image.manifest


async def test_tags_never_expire(plain: ScriptedRegistry, directory: Path, image: Image) -> None:
    """Not by `tagAge` and `staleIfError`, and not by the maintenance that forgets tags which nobody has confirmed."""
    await filled(plain, directory, image)
    [tag] = (directory / "repositories").glob("*/*/tags/*")
    tag.write_text(re.sub(r'"confirmed": [0-9.]+', '"confirmed": 1000000000', tag.read_text()))
    os.utime(tag, (OCTOBER, OCTOBER))
    for _ in range(2):  # each start compares the whole store with its index, and cleans it
        async with cached([plain.url], directory, cache={**OFFLINE, "staleIfError": "0s"}) as node:
            got = await node.get(manifest())
            assert (got.status, got.body, way(got)) == (200, image.manifest, "hit")
            await tidied(directory)
    assert tag.exists()


async def test_a_clock_that_is_behind_makes_no_tag_unknown(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    await filled(plain, directory, image)
    [tag] = (directory / "repositories").glob("*/*/tags/*")
    tag.write_text(re.sub(r'"confirmed": [0-9.]+', '"confirmed": 4000000000', tag.read_text()))
    async with cached([plain.url], directory, cache=OFFLINE) as node:
        got = await node.get(manifest())
        assert (got.body, got.header("Age")) == (image.manifest, "0")


async def test_online_a_tag_that_nobody_confirms_is_forgotten(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    await filled(plain, directory, image)
    [tag] = (directory / "repositories").glob("*/*/tags/*")
    os.utime(tag, (OCTOBER, OCTOBER))
    async with cached([plain.url], directory):
        async with asyncio.timeout(30):
            while tag.exists():  # noqa: ASYNC110 - the maintenance has no event
                await asyncio.sleep(0.01)


async def tidied(directory: Path) -> None:
    """Wait until the maintenance of a start has come to the end of the repositories: it removes this file there."""
    left = directory / "repositories" / "ff" / ("f" * 64) / "tags" / ".left"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    os.utime(left, (OCTOBER, OCTOBER))
    async with cached([], directory, cache=OFFLINE):
        async with asyncio.timeout(30):
            while left.exists():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_range_far_into_a_large_layer_that_was_not_read_yet_is_served(directory: Path) -> None:
    """Online such a range would pass through, since the stored bytes are verified first."""
    image = make_image(UPSTREAM, "1", {"big": os.urandom(BIG)})
    digest, content = layer_of(image)
    async with ScriptedRegistry([image], Rules(dialect="none")) as server:
        await filled(server, directory, image)
        async with cached([server.url], directory, cache=OFFLINE) as node:
            start = len(content) - 1000
            got = await node.get(blob(digest), ("Range", f"bytes={start}-"))
            assert (got.status, got.body) == (206, content[start:])


async def test_corrupt_content_is_not_served_and_not_requested_anew(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    await filled(plain, directory, image)
    digest, content = layer_of(image)
    stored_file(directory, digest).write_bytes(bytes(len(content)))
    async with cached([plain.url], directory, cache=OFFLINE) as node:
        before = len(plain.record.all())
        assert (await node.get(blob(digest))).status in {404, 502}
        assert (await node.get(blob(digest))).status == 404
        assert len(plain.record.all()) == before


async def test_a_cache_that_cannot_be_read_is_503_and_not_404(
    plain: ScriptedRegistry, directory: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is there: with 404 containerd would look for it elsewhere."""
    await filled(plain, directory, image)
    real = os.open

    def broken(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path).startswith(str(directory / "blobs")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **more)

    async with cached([plain.url], directory, cache=OFFLINE) as node:
        before = len(plain.record.all())
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", broken)
            for target in (manifest(), manifest(image.digest), blob(layer_of(image)[0])):
                got = await node.get(target)
                assert (got.status, got.code) == (503, "UNAVAILABLE"), target
                assert got.reason.startswith("offline: "), got.reason
            assert (await node.head(blob(layer_of(image)[0]))).status == 503
        assert (await node.get(blob(layer_of(image)[0]))).status == 200
        assert len(plain.record.all()) == before


async def test_the_status_page_says_what_to_do_about_an_image_that_is_not_cached(
    plain: ScriptedRegistry, directory: Path
) -> None:
    section = {"path": str(directory), "reserveFree": "1Mi", **OFFLINE}
    async with started(settings([plain.url], cache=section)) as proxy:
        assert (await proxy.node.get(manifest())).status == 404
        async with proxy.admin.opened("GET", "/status", ("Connection", "close")) as (reader, _):
            page = (await read_answer(reader, "GET")).body.decode()
        assert "Import a bundle that has the image: scope-proxy cache import." in page
