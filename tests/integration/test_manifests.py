"""Manifests as a node sees them."""

import pytest

from proxy.testbed.images import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Image, make_image, make_index
from tests.fakes.client import NodeClient
from tests.fakes.proxy import REG, UPSTREAM, manifest
from tests.fakes.registry import ScriptedRegistry


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_manifest_has_exact_headers(node: NodeClient, image: Image, method: str, by: str) -> None:
    got = await node.send(method, manifest(image.tag if by == "tag" else image.digest))
    assert (got.status, got.reason) == (200, "OK")
    assert got.header("Content-Length") == str(len(image.manifest))
    assert got.header("Content-Type") == OCI_MANIFEST
    assert got.header("Docker-Content-Digest") == image.digest
    assert got.header("OCI-Namespace") == REG
    assert got.header("Transfer-Encoding") is None
    assert got.body == (image.manifest if method == "GET" else b"")


@pytest.mark.parametrize(
    ("made", "media_type"),
    [(make_image(UPSTREAM, "2", docker=True), DOCKER_MANIFEST), (make_index(UPSTREAM, "3"), OCI_INDEX)],
)
async def test_every_kind_of_manifest_is_passed_as_it_is(
    node: NodeClient, registry: ScriptedRegistry, made: Image, media_type: str
) -> None:
    registry.add(made)
    head, got = await node.head(manifest(made.tag)), await node.get(manifest(made.tag))
    assert head.header("Content-Type") == got.header("Content-Type") == media_type
    assert head.header("Content-Length") == str(got.size)
    assert (got.body, got.header("Docker-Content-Digest")) == (made.manifest, made.digest)


async def test_several_accept_lines_are_joined(node: NodeClient, registry: ScriptedRegistry) -> None:
    got = await node.get(manifest(), ("Accept", OCI_MANIFEST), ("Accept", f"{OCI_INDEX}, */*;q=0.1"))
    assert got.status == 200
    accept = registry.record.of("manifest")[-1].headers["accept"]
    assert accept == f"{OCI_MANIFEST}, {OCI_INDEX}, */*;q=0.1"


async def test_without_accept_all_manifest_types_are_requested(node: NodeClient, registry: ScriptedRegistry) -> None:
    assert (await node.head(manifest())).status == 200
    accept = registry.record.of("manifest")[-1].headers["accept"]
    assert {OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST} <= set(accept.split(", "))


async def test_a_range_on_a_manifest_is_ignored(node: NodeClient, image: Image) -> None:
    got = await node.get(manifest(), ("Range", "bytes=0-"))
    assert (got.status, got.body) == (200, image.manifest)


async def test_nothing_is_compressed_for_clients_that_would_take_it(
    node: NodeClient, registry: ScriptedRegistry, image: Image
) -> None:
    got = await node.get(manifest(), ("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"))
    assert got.body == image.manifest
    assert {entry.headers["accept-encoding"] for entry in registry.record.all()} == {"identity"}


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_what_the_upstream_does_not_have_is_404(node: NodeClient, method: str) -> None:
    got = await node.send(method, manifest("2"))
    assert got.status == 404
    if method == "GET":
        assert got.code == "MANIFEST_UNKNOWN"
        assert got.error["detail"]["scope"] == f"repository:{UPSTREAM}:pull"
        assert got.error["detail"]["hint"] == f"scope-proxy explain {REG}/library/app"
