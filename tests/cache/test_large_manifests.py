"""Large manifests: parsed once, and where nobody waits for it; what is too large is none, wherever it is stored."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.answer import Bytes
from proxy.testbed.images import OCI_INDEX, OCI_MANIFEST, Image, make_image, sha256
from proxy.testbed.library import HeldManifest
from tests.cache.serving import cached
from tests.fakes.blobs import MIB
from tests.fakes.changes import DropHeader
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

LIMIT = 4 * MIB


@pytest.fixture
def padded(plain: ScriptedRegistry, image: Image) -> str:
    """The digest of a manifest with blanks behind it: 4 MiB of it are a manifest, and all of it is one byte more.

    The registry has it as a blob, and an index that names it as a manifest.
    """
    digest = plain.add_blob(UPSTREAM, Bytes(image.manifest.ljust(LIMIT + 1))).digest
    entry = {"mediaType": OCI_MANIFEST, "digest": digest, "size": LIMIT + 1}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    held = plain.library.repository(UPSTREAM)
    held.tags["index"] = sha256(index)
    held.manifests[sha256(index)] = HeldManifest(sha256(index), OCI_INDEX, Bytes(index))
    return digest


async def pull(node: NodeClient, digest: str) -> None:
    """Have the index say that the digest is a manifest of the repository, and have its bytes stored."""
    assert (await node.get(manifest("index"))).status == 200
    got = await node.get(blob(digest), keep_body=False)
    assert (got.status, got.size, got.sha256) == (200, LIMIT + 1, digest)


@pytest.mark.parametrize("methods", [("GET", "HEAD"), ("HEAD", "GET")])
@pytest.mark.parametrize("verify", ["ingest", "firstRead"])
async def test_a_stored_blob_is_not_cut_to_a_manifest(
    plain: ScriptedRegistry, directory: Path, padded: str, verify: str, methods: Sequence[str]
) -> None:
    async with cached([plain.url], directory) as node:
        await pull(node, padded)
    async with cached([plain.url], directory, cache={"verify": verify}) as node:
        for method in methods:
            got = await node.send(method, manifest(padded))
            assert (got.status, got.header("Docker-Content-Digest")) == (404, None)
        assert (await node.get(blob(padded), keep_body=False)).sha256 == padded


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The large documents that were parsed: for each of them whether it was in the event loop."""
    found, loads = [], json.loads

    def recorded(text: str, **more: Any) -> Any:
        if len(text) > 256 * 1024:
            found.append(threading.current_thread() is threading.main_thread())
        return loads(text, **more)

    monkeypatch.setattr(json, "loads", recorded)
    return found


@pytest.fixture
def large(plain: ScriptedRegistry) -> Image:
    image = make_image(UPSTREAM, "large", extra={"annotations": {"a": "x" * (3 * MIB)}})
    plain.library.add(image)
    return image


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("has_cache", [True, False], ids=["cached", "uncached"])
async def test_a_manifest_is_parsed_once_and_not_in_the_event_loop(
    plain: ScriptedRegistry, directory: Path, large: Image, parsed: list[bool], has_cache: bool, by: str, method: str
) -> None:
    plain.script(on("HEAD", "manifest"), DropHeader("Docker-Content-Digest"))  # so that a HEAD has it fetched as well
    target = manifest("large" if by == "tag" else large.digest)
    section = {"cache": {"path": str(directory), "reserveFree": "1Mi"}} if has_cache else {}
    async with started(settings([plain.url], **section)) as proxy:
        got = await proxy.node.send(method, target)
        assert (got.status, got.header("Docker-Content-Digest")) == (200, large.digest)
        assert parsed == [False]
        if has_cache:
            assert (await proxy.node.get(target)).body == large.manifest
            assert (await proxy.node.get(blob(large.digest))).status == 404
            assert parsed == [False]


async def test_a_stored_manifest_is_parsed_once_when_it_is_read(
    plain: ScriptedRegistry, directory: Path, large: Image, parsed: list[bool]
) -> None:
    async with cached([plain.url], directory) as node:
        assert (await node.get(manifest("large"))).body == large.manifest
    del parsed[:]
    async with cached([plain.url], directory) as node:
        for _ in range(2):
            assert (await node.get(manifest(large.digest))).body == large.manifest
    assert parsed == [False]


@pytest.mark.parametrize("has_cache", [True, False], ids=["cached", "uncached"])
async def test_so_is_a_blob_that_could_be_one(
    plain: ScriptedRegistry, directory: Path, parsed: list[bool], has_cache: bool
) -> None:
    content = Bytes(json.dumps({"a": "x" * (3 * MIB)}).encode())
    digest = plain.add_blob(UPSTREAM, content).digest
    section = {"cache": {"path": str(directory), "reserveFree": "1Mi"}} if has_cache else {}
    async with started(settings([plain.url], **section)) as proxy:
        got = await proxy.node.get(blob(digest))
        assert (got.status, got.sha256) == (200, digest)
    assert parsed == [False]
