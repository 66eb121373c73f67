"""Manifests that name many digests make no index without bound: it is part of what `maxSize` bounds."""

import json
from pathlib import Path

import pytest

from proxy.testbed.answer import Bytes
from proxy.testbed.images import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, sha256
from proxy.testbed.library import HeldManifest
from tests.cache.serving import cached, way
from tests.fakes.blobs import Generated
from tests.fakes.client import NodeClient
from tests.fakes.proxy import UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry

pytestmark = [pytest.mark.security, pytest.mark.slow]

MIB = 1 << 20


def publish(registry: ScriptedRegistry, number: int, count: int, field: str = "layers") -> str:
    """Put a manifest with so many invented digests into the registry; its digest."""
    named = [{"mediaType": OCI_LAYER, "size": 1, "digest": sha256(b"%d %d" % (number, at))} for at in range(count)]
    media_type = OCI_INDEX if field == "manifests" else OCI_MANIFEST
    fields = {"manifests": named} if field == "manifests" else {"config": named[0], field: named}
    content = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}, separators=(",", ":")).encode()
    held = registry.library.repository(UPSTREAM)
    held.manifests[sha256(content)] = HeldManifest(sha256(content), media_type, Bytes(content))
    return sha256(content)


def bytes_of(directory: Path, pattern: str) -> int:
    """The bytes of all files below a directory with such a name."""
    return sum(path.lstat().st_size for path in directory.rglob(pattern) if path.is_file())


async def pull_all(node: NodeClient, digests: list[str]) -> None:
    for digest in digests:
        assert (await node.get(manifest(digest), keep_body=False)).status == 200


@pytest.mark.parametrize("field", ["layers", "manifests"])
async def test_manifests_with_very_many_digests_are_served_and_not_indexed(
    plain: ScriptedRegistry, tmp_path: Path, field: str
) -> None:
    digests = [publish(plain, number, 25_000, field) for number in range(8)]
    async with cached([plain.url], tmp_path / "cache", cache={"maxSize": "64Mi"}) as node:
        await pull_all(node, digests)
        assert way(await node.get(manifest(digests[-1]), keep_body=False)) == "hit"
        assert bytes_of(tmp_path / "cache", "index.sqlite*") < 8 * MIB
        assert bytes_of(tmp_path / "cache", "*") < 66 * MIB
    (tmp_path / "cache" / "index.sqlite").unlink()
    async with cached([plain.url], tmp_path / "cache", cache={"maxSize": "64Mi"}) as node:
        assert way(await node.get(manifest(digests[-1]), keep_body=False)) == "hit"
        assert bytes_of(tmp_path / "cache", "index.sqlite*") < 8 * MIB


@pytest.mark.parametrize("limit", [None, "500"])
async def test_their_blobs_are_confirmed_by_the_upstream(
    plain: ScriptedRegistry, tmp_path: Path, limit: str | None
) -> None:
    content = Generated(5000, seed=77)
    digest = plain.add_blob("team/other", content).digest
    held = plain.library.repository(UPSTREAM)
    layer = {"mediaType": OCI_LAYER, "size": content.size, "digest": digest}
    more = [{"mediaType": OCI_LAYER, "size": 1, "digest": sha256(b"%d" % at)} for at in range(999)]
    text = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layer, "layers": more}).encode()
    held.manifests[sha256(text)] = HeldManifest(sha256(text), OCI_MANIFEST, Bytes(text))
    cache = {} if limit is None else {"maxManifestDigests": int(limit)}
    async with cached([plain.url], tmp_path / "cache", cache=cache) as node:
        assert (await node.get(blob(digest, "library/other"))).status == 200
        assert (await node.get(manifest(sha256(text)))).body == text
        assert (await node.get(blob(digest))).status == (200 if limit is None else 404)
        held.blobs[digest] = content
        assert (await node.get(blob(digest))).status == 200
    methods = [entry.method for entry in plain.record.of("blob", repository=UPSTREAM)]
    assert methods == ([] if limit is None else ["HEAD", "HEAD"])


async def test_many_manifests_with_many_digests_keep_the_index_within_its_share(
    plain: ScriptedRegistry, tmp_path: Path
) -> None:
    digests = [publish(plain, number, 1900) for number in range(60)]
    async with cached([plain.url], tmp_path / "cache", cache={"maxSize": "64Mi"}) as node:
        await pull_all(node, digests)
        assert bytes_of(tmp_path / "cache", "index.sqlite*") < 13 * MIB  # with its log, and what a transaction takes
        assert bytes_of(tmp_path / "cache", "*") < 66 * MIB
        assert way(await node.get(manifest(digests[-1]), keep_body=False)) == "hit"


async def test_the_index_counts_for_the_bound_of_the_store(plain: ScriptedRegistry, tmp_path: Path) -> None:
    digests = [plain.add_blob(UPSTREAM, Generated(64 * 1024, seed=number)).digest for number in range(40)]
    manifests = [publish(plain, number, 1900) for number in range(4)]
    async with cached([plain.url], tmp_path / "cache", cache={"maxSize": "6Mi"}) as node:
        await pull_all(node, manifests)
        for digest in digests:
            assert (await node.get(blob(digest), keep_body=False)).status == 200
        assert bytes_of(tmp_path / "cache", "*") <= 6 * MIB + 1.5 * MIB  # SQLite's log
