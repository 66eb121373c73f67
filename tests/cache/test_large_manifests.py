"""What is too large for a manifest is none, also where it is stored, and where its beginning alone would be one."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.demo.content import Bytes
from proxy.demo.images import OCI_INDEX, OCI_MANIFEST, Image, sha256
from proxy.demo.library import Manifest
from tests.cache.serving import cached
from tests.fakes.blobs import MIB
from tests.fakes.client import NodeClient
from tests.fakes.proxy import UPSTREAM, blob, manifest
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
    held.manifests[sha256(index)] = Manifest(sha256(index), OCI_INDEX, Bytes(index))
    return digest


async def pull(node: NodeClient, digest: str) -> None:
    """Have the index say that the digest is a manifest of the repository, and have its bytes stored."""
    assert (await node.get(manifest("index"))).status == 200
    got = await node.get(blob(digest), keep_body=False)
    assert (got.status, got.size, got.sha256) == (200, LIMIT + 1, digest)


@pytest.mark.parametrize("methods", [("GET", "HEAD"), ("HEAD", "GET")])
@pytest.mark.parametrize("verify", ["ingest", "firstRead"])
async def test_a_stored_blob_is_not_cut_to_a_manifest(
    plain: ScriptedRegistry, folder: Path, padded: str, verify: str, methods: Sequence[str]
) -> None:
    async with cached([plain.url], folder) as node:
        await pull(node, padded)
    async with cached([plain.url], folder, cache={"verify": verify}) as node:
        for method in methods:
            got = await node.send(method, manifest(padded))
            assert (got.status, got.header("Docker-Content-Digest")) == (404, None)
        assert (await node.get(blob(padded), keep_body=False)).sha256 == padded
