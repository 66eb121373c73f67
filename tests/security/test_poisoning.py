"""The cache keeps what has been hashed and nothing else, under keys that no client and no upstream can confuse."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.testbed.answer import Bytes
from proxy.testbed.images import OCI_INDEX, OCI_MANIFEST, Image, make_image, sha256
from proxy.testbed.tokens import Rules
from tests.cache.serving import cached, way
from tests.fakes.changes import Body, FlipByte, Reply, SetHeader
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import REG, REWRITES, UPSTREAM, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

OTHER = "other.example"
EVIL = b"something else"
BOTH = {
    "schemaVersion": 2,
    "config": {"mediaType": "a/b", "digest": sha256(b"c"), "size": 1},
    "layers": [],
    "manifests": [],
}


@pytest.fixture
async def near(plain: ScriptedRegistry, tmp_path: Path) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with a cache, whose tags are requested again each time."""
    async with cached([plain.url], tmp_path / "cache", cache={"tagAge": "0s"}) as node:
        yield node


@pytest.mark.parametrize("change", [FlipByte(), Body(EVIL), Body(b"")], ids=["a byte", "all of it", "nothing"])
@pytest.mark.parametrize("kind", ["manifest", "blob"])
async def test_wrong_bytes_for_a_digest_are_not_served_and_not_kept(
    near: NodeClient, plain: ScriptedRegistry, image: Image, kind: str, change: FlipByte | Body
) -> None:
    target = manifest(image.digest) if kind == "manifest" else blob(layer_of(image)[0])
    right = image.manifest if kind == "manifest" else layer_of(image)[1]
    plain.script(on("GET"), change)
    got = await near.get(target)
    assert got.status in {502, 503}
    plain.behave()
    assert (await near.get(target)).body == right


@pytest.mark.parametrize("kind", ["manifest", "blob"])
async def test_a_sha512_is_checked_as_a_sha512(
    near: NodeClient, plain: ScriptedRegistry, image: Image, kind: str
) -> None:
    """A registry that answers any digest with the same content gets none of it into the cache under that digest."""
    wrong = f"sha512:{hashlib.sha512(EVIL).hexdigest()}"
    content = image.manifest if kind == "manifest" else layer_of(image)[1]
    plain.script(on(), Reply(200, content, content_type=OCI_MANIFEST))
    for _ in range(2):
        assert (await near.get(manifest(wrong) if kind == "manifest" else blob(wrong))).status == 502


@pytest.mark.parametrize("media_type", [OCI_INDEX, "text/html", ""])
async def test_the_type_of_a_manifest_is_what_its_bytes_say(
    near: NodeClient, plain: ScriptedRegistry, image: Image, media_type: str
) -> None:
    """No digest covers Content-Type: one answer must not give content another meaning for all (CVE-2021-41190)."""
    plain.script(on(kind="manifest"), SetHeader("Content-Type", media_type))
    for reference in ("1", image.digest, image.digest):
        got = await near.get(manifest(reference))
        assert (got.status, got.header("Content-Type"), got.body) == (200, OCI_MANIFEST, image.manifest)


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX])
async def test_a_manifest_that_is_two_things_is_refused(
    near: NodeClient, plain: ScriptedRegistry, media_type: str
) -> None:
    content = json.dumps(BOTH).encode()
    plain.script(on(kind="manifest"), Reply(200, content, content_type=media_type))
    for reference in ("1", sha256(content)):
        assert (await near.get(manifest(reference))).status == 502
    plain.behave()
    assert (await near.get(manifest(sha256(content)))).status == 404


async def test_a_digest_that_only_head_tells_decides_nothing(
    near: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    plain.script(on("HEAD", "manifest"), SetHeader("Docker-Content-Digest", sha256(EVIL)))
    plain.script(on("GET", "manifest", reference=sha256(EVIL)), Reply(404))
    assert (await near.get(manifest())).body == image.manifest
    got = await near.get(manifest())
    assert got.body in {image.manifest, b""} or got.status >= 400
    assert (await near.get(manifest(sha256(EVIL)))).status == 404


@pytest.mark.parametrize("reference", ["1", "latest"])
async def test_a_tag_of_one_registry_is_none_of_another(
    plain: ScriptedRegistry, image: Image, tmp_path: Path, reference: str
) -> None:
    """Same repository, same tag, same content of the tag upstream: only the registry differs."""
    mine, theirs = make_image(UPSTREAM, reference, {"a": b"mine"}), make_image(UPSTREAM, reference, {"a": b"theirs"})
    plain.add(mine)
    async with ScriptedRegistry([theirs], Rules(dialect="none")) as second:
        registries = {
            name: {"endpoints": [server.url], "rewrites": list(REWRITES)}
            for name, server in ((REG, plain), (OTHER, second))
        }
        async with cached([plain.url], tmp_path / "cache", registries=registries) as node:
            for _ in range(2):
                assert (await node.get(manifest(reference))).body == mine.manifest
                assert (await node.get(manifest(reference, registry=OTHER))).body == theirs.manifest
            got = await node.get(manifest(mine.digest, registry=OTHER))
    assert (got.status, image.repository) == (404, UPSTREAM)


@pytest.mark.parametrize("kind", ["manifest", "blob"])
async def test_what_one_repository_has_is_not_found_in_another(
    near: NodeClient, plain: ScriptedRegistry, image: Image, kind: str
) -> None:
    plain.add(make_image("team/other", "1", {"other": b"other"}))
    digest = image.digest if kind == "manifest" else layer_of(image)[0]
    target = manifest if kind == "manifest" else blob
    assert (await near.get(target(digest))).status == 200
    assert (await near.get(target(digest, name="library/other"))).status == 404
    assert (await near.head(target(digest, name="library/other"))).status == 404
    assert (await near.get(target(digest, name="library/other"), ("Range", "bytes=0-3"))).status == 404


async def test_a_manifest_is_no_blob_and_a_blob_no_manifest(
    near: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    digest, data = layer_of(image)
    plain.library.repositories[UPSTREAM].blobs[image.digest] = Bytes(image.manifest)
    assert (await near.get(manifest())).status == 200
    assert (await near.get(blob(image.digest))).status == 404
    assert (await near.get(blob(digest))).body == data
    plain.script(on(kind="manifest", reference=digest), Reply(200, data, content_type=OCI_MANIFEST))
    assert (await near.get(manifest(digest))).status in {404, 502}


@pytest.mark.parametrize(
    "header",
    [
        ("X-Forwarded-Host", "evil.example"),
        ("X-Original-URL", "/v2/library/other/manifests/1"),
        ("Accept", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ("Accept-Encoding", "gzip, br, zstd"),
        ("Range", "bytes=0-3"),
        ("If-None-Match", "*"),
    ],
)
async def test_no_header_of_one_client_changes_what_the_next_one_gets(
    near: NodeClient, image: Image, header: tuple[str, str]
) -> None:
    await near.get(manifest(), header)
    await near.get(blob(layer_of(image)[0]), header)
    got = await near.get(manifest())
    assert (got.status, got.header("Content-Type"), got.body) == (200, OCI_MANIFEST, image.manifest)
    got = await near.get(blob(layer_of(image)[0]))
    assert (got.status, got.body) == (200, layer_of(image)[1])
    assert way(got) in {"hit", "miss"}


@pytest.mark.parametrize("status", [204, 206, 304])
async def test_an_odd_status_is_no_content(
    near: NodeClient, plain: ScriptedRegistry, image: Image, status: int
) -> None:
    plain.script(on(), Reply(status, b"" if status in {204, 304} else EVIL))
    for target in (manifest(), manifest(image.digest), blob(layer_of(image)[0])):
        assert (await near.get(target)).status >= 400
    plain.behave()
    assert (await near.get(manifest())).body == image.manifest
    assert (await near.get(blob(layer_of(image)[0]))).body == layer_of(image)[1]
