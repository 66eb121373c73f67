"""The digest of a manifest is never served as a blob: an answer there poisons old nodes' image stores for good.

The upstream here does what Artifactory does: it serves manifests under /blobs/ as well.
"""

from collections.abc import Sequence

import pytest

from proxy.testbed.answer import Bytes
from proxy.testbed.images import Image, make_artifact, make_image, make_index
from tests.fakes.changes import Reply
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.usefixtures("with_and_without_cache")

PLAIN = make_image(UPSTREAM, "plain")
IMAGES = {
    "oci": PLAIN,
    "docker": make_image(UPSTREAM, "docker", docker=True),
    "index": make_index(UPSTREAM, "index"),
    "artifact": make_artifact(PLAIN, "application/vnd.example.sbom"),
}


@pytest.fixture(params=list(IMAGES))
def served_as_blob(request: pytest.FixtureRequest, registry: ScriptedRegistry) -> Image:
    """A manifest that the upstream also serves under /blobs/."""
    made = IMAGES[request.param]
    registry.add(made)
    registry.library.repository(UPSTREAM).blobs[made.digest] = Bytes(made.manifest)
    return made


@pytest.mark.parametrize(
    "order",
    [
        ("HEAD", "GET", "HEAD", "GET"),
        ("GET", "HEAD", "GET"),
        ("range", "HEAD", "range", "GET"),
        ("suffix", "GET"),
        ("pull", "HEAD", "GET", "range"),
        ("look", "HEAD", "GET", "range"),
        ("look", "GET"),
        ("look", "range", "pull", "range"),
    ],
    ids="-".join,
)
async def test_it_is_404_in_every_order(node: NodeClient, served_as_blob: Image, order: Sequence[str]) -> None:
    digest = served_as_blob.digest
    for step in order:
        if step == "pull":
            assert (await node.get(manifest(digest))).body == served_as_blob.manifest
        elif step == "look":
            assert (await node.head(manifest(digest))).status == 200
        elif step == "HEAD":
            assert (await node.head(blob(digest))).status == 404
        else:
            headers = {"GET": (), "range": (("Range", "bytes=0-"),), "suffix": (("Range", "bytes=-5"),)}[step]
            got = await node.get(blob(digest), *headers)
            assert (got.status, got.code) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=7-9", "bytes=-1", "bytes=0-99999999", "bytes=99999999-"])
@pytest.mark.parametrize("ranges_ignored", [False, True])
async def test_no_range_gets_a_byte_of_it(
    node: NodeClient, registry: ScriptedRegistry, served_as_blob: Image, header: str, ranges_ignored: bool
) -> None:
    if ranges_ignored:
        registry.script(on("GET", "blob").with_header("Authorization"), Reply(200, served_as_blob.manifest))
    got = await node.get(blob(served_as_blob.digest), ("Range", header))
    assert (got.status, got.code) == (404, "BLOB_UNKNOWN")


async def test_that_somebody_requested_a_blob_as_a_manifest_proves_nothing(node: NodeClient, image: Image) -> None:
    digest, data = layer_of(image)
    assert (await node.head(manifest(digest))).status == 404
    assert (await node.get(manifest(digest))).status == 404
    assert (await node.get(blob(digest))).body == data
    assert (await node.head(blob(digest))).status == 200


async def test_json_that_is_no_manifest_is_a_blob(node: NodeClient, image: Image) -> None:
    digest, data = next(iter(image.blobs.items()))  # the image configuration
    assert data.startswith(b"{")
    assert (await node.head(blob(digest))).status == 200
    assert (await node.get(blob(digest))).body == data
