"""Where clients have rights of their own, cached bytes count only for routes whose endpoints delivered them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from proxy.config.address import Origin
from proxy.oci.reference import Digest
from proxy.store.layout import Layout
from proxy.store.provenance import domain_name
from proxy.testbed.answer import Bytes
from proxy.testbed.images import OCI_INDEX, OCI_MANIFEST, Image, ImageDescriptor, make_image, sha256
from proxy.testbed.library import HeldManifest
from proxy.testbed.tokens import Account, Rules
from tests.cache.serving import BLOB, cached, eventually, way, whole
from tests.fakes.blobs import MIB, Generated, image_of_layers
from tests.fakes.changes import Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Cut, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import REG, REWRITES, UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import GUEST, OWNER, login

pytestmark = pytest.mark.security

OTHER = "other.example"
"""The attacker's own registry, which the operator has configured beside the private one, REG."""
LARGE = Generated(6 * MIB + 11, seed=81)
SMALL = Generated(200_003, seed=82)
PRIVATE = make_image(UPSTREAM, "1")
ALLOW = ({"action": "allow"},)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two registries behind one proxy, and who pulls from the one and from the other."""

    private: ScriptedRegistry
    hostile: ScriptedRegistry
    node: NodeClient
    victim: tuple[tuple[str, str], ...]
    attacker: tuple[tuple[str, str], ...]


Modes = Mapping[str, tuple[Mapping[str, Any], tuple[Account, ...], tuple[Account, ...]]]
MODES: Modes = {
    "own-credentials": (
        {"listeners": [{"address": "127.0.0.1:0", "clients": {"auth": "upstream"}}]},
        (replace(OWNER, repositories=(UPSTREAM,)),),
        (replace(GUEST, repositories=(UPSTREAM,)),),
    ),
    "access-rules": ({"access": list(ALLOW)}, (), ()),
}


Claim = Callable[[Pair, str, int], Awaitable[None]]


@asynccontextmanager
async def pair(directory: Path, mode: str, **more: Any) -> AsyncIterator[Pair]:
    """The two registries of a mode."""
    settings, owners, guests = MODES[mode]
    rules = Rules(dialect="bearer" if owners else "none", accounts=owners)
    async with (
        ScriptedRegistry([PRIVATE], rules) as private,
        ScriptedRegistry([], replace(rules, accounts=guests)) as hostile,
    ):
        hostile.library.repository(UPSTREAM)
        registries = routes({REG: [private], OTHER: [hostile]})
        async with cached([private.url], directory, registries=registries, **settings, **more) as node:
            yield Pair(private, hostile, node, (login(OWNER),) if owners else (), (login(GUEST),) if guests else ())


def routes(servers: Mapping[str, Sequence[ScriptedRegistry]]) -> dict[str, Any]:
    """The section `registries`: each name with its endpoints."""
    return {
        name: {"endpoints": [server.url for server in listed], "rewrites": list(REWRITES)}
        for name, listed in servers.items()
    }


@asynccontextmanager
async def two() -> AsyncIterator[tuple[ScriptedRegistry, ScriptedRegistry]]:
    """Two registries that want no token."""
    async with (
        ScriptedRegistry([], Rules(dialect="none")) as one,
        ScriptedRegistry([], Rules(dialect="none")) as other,
    ):
        yield one, other


def claimed_size(digest: str, size: int) -> Reply:
    """An answer that says that something is there."""
    return Reply(200, b"{}", {"Docker-Content-Digest": digest, "Content-Length": str(size)}, content_type=OCI_MANIFEST)


def publish(registry: ScriptedRegistry, image: Image) -> None:
    """Put a manifest into the hostile registry, without what it names."""
    held = registry.library.repository(UPSTREAM)
    held.manifests[image.digest] = HeldManifest(image.digest, image.media_type, Bytes(image.manifest))
    held.tags[image.tag] = image.digest


async def claim_by_head(scene: Pair, digest: str, size: int) -> None:
    """Confirm every digest by HEAD."""
    scene.hostile.script(on("HEAD", "blob"), claimed_size(digest, size))
    scene.hostile.script(on("HEAD", "manifest"), claimed_size(digest, size))
    for target in (blob(digest, registry=OTHER), manifest(digest, registry=OTHER)):
        await scene.node.head(target, *scene.attacker)


async def claim_by_manifest(scene: Pair, digest: str, size: int) -> None:
    """Serve a manifest whose layer it is."""
    made = image_of_layers(UPSTREAM, "claim", ImageDescriptor("application/octet-stream", digest, size))
    publish(scene.hostile, made)
    assert (await scene.node.get(manifest("claim", registry=OTHER), *scene.attacker)).status == 200


async def claim_by_index(scene: Pair, digest: str, size: int) -> None:
    """Serve an index that lists it."""
    text = f'{{"schemaVersion": 2, "mediaType": "{OCI_INDEX}", "manifests": [{{"mediaType": "{OCI_MANIFEST}", '
    content = f'{text}"digest": "{digest}", "size": {size}}}]}}'.encode()
    publish(scene.hostile, Image(UPSTREAM, "claim", content, OCI_INDEX, sha256(content)))
    assert (await scene.node.get(manifest("claim", registry=OTHER), *scene.attacker)).status == 200


async def claim_by_tag(scene: Pair, digest: str, size: int) -> None:
    """Tell the digest for a tag."""
    scene.hostile.script(on("HEAD", "manifest"), claimed_size(digest, size))
    await scene.node.get(manifest("claim", registry=OTHER), *scene.attacker)


async def claim_by_wrong_bytes(scene: Pair, digest: str, size: int) -> None:
    """Deliver other bytes of the same size for it."""
    scene.hostile.library.repository(UPSTREAM).blobs[digest] = Generated(size, seed=83)
    scene.hostile.script(on("HEAD", "blob"), claimed_size(digest, size))
    await scene.node.get(blob(digest, registry=OTHER), *scene.attacker)
    scene.hostile.library.repository(UPSTREAM).blobs.clear()


CLAIMS = [claim_by_head, claim_by_manifest, claim_by_index, claim_by_tag, claim_by_wrong_bytes]


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_blob_of_one_registry_is_not_served_for_another_that_only_claims_it(
    tmp_path: Path, mode: str, content: Generated, claim: Claim
) -> None:
    async with pair(tmp_path / "cache", mode) as scene:
        digest = scene.private.add_blob(UPSTREAM, content).digest
        got = await scene.node.get(blob(digest), *scene.victim, keep_body=False)
        assert (got.status, got.sha256) == (200, digest)
        await claim(scene, digest, content.size)
        for headers in ((), (("Range", "bytes=5-9"),), (("Range", f"bytes={content.size - 9}-"),)):
            got = await scene.node.get(blob(digest, registry=OTHER), *scene.attacker, *headers)
            assert (got.status, whole(content)[5:10] in got.body) != (200, True)
            assert got.status in {404, 502, 503}
        assert way(await scene.node.get(blob(digest), *scene.victim)) == "hit"
    assert scene.private.record.of("blob", "GET")


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("mode", MODES)
async def test_nor_is_a_manifest(tmp_path: Path, mode: str, claim: Claim) -> None:
    async with pair(tmp_path / "cache", mode) as scene:
        assert (await scene.node.get(manifest(), *scene.victim)).body == PRIVATE.manifest
        await claim(scene, PRIVATE.digest, len(PRIVATE.manifest))
        for reference in (PRIVATE.digest, "claim"):
            got = await scene.node.get(manifest(reference, registry=OTHER), *scene.attacker)
            assert got.body != PRIVATE.manifest


@pytest.mark.parametrize("mode", MODES)
async def test_nor_after_a_restart_nor_with_the_index_rebuilt(tmp_path: Path, mode: str) -> None:
    digest = ""
    for attempt in ("first", "restarted", "rebuilt"):
        if attempt == "rebuilt":
            (tmp_path / "cache" / "index.sqlite").unlink()
        async with pair(tmp_path / "cache", mode) as scene:
            digest = scene.private.add_blob(UPSTREAM, SMALL).digest
            assert (await scene.node.get(blob(digest), *scene.victim)).status == 200
            await claim_by_head(scene, digest, SMALL.size)
            got = await scene.node.get(blob(digest, registry=OTHER), *scene.attacker)
            assert (got.status, attempt) == (404, attempt)


@pytest.mark.parametrize("mode", MODES)
async def test_a_download_in_flight_is_not_joined_from_another_registry(tmp_path: Path, mode: str) -> None:
    async with pair(tmp_path / "cache", mode) as scene:
        digest = scene.private.add_blob(UPSTREAM, LARGE).digest
        until, reached = asyncio.Event(), asyncio.Event()
        scene.private.script(BLOB, Stall(4 * MIB, until, reached))
        scene.hostile.script(on("HEAD", "blob"), claimed_size(digest, LARGE.size))
        async with asyncio.TaskGroup() as tasks:
            pull = tasks.create_task(scene.node.get(blob(digest), *scene.victim, keep_body=False))
            await reached.wait()
            got = await scene.node.get(blob(digest, registry=OTHER), *scene.attacker)
            until.set()
        assert (got.status, got.body[:5] == whole(LARGE)[:5]) == (404, False)
        assert pull.result().sha256 == digest


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_who_delivers_it_is_served_from_the_cache_from_then_on(
    tmp_path: Path, content: Generated, restarted: bool
) -> None:
    async with two() as (one, other):
        digest = one.add_blob(UPSTREAM, content).digest
        other.add_blob(UPSTREAM, content)
        registries = routes({REG: [one], OTHER: [other]})
        more: Mapping[str, Any] = {"registries": registries, "access": list(ALLOW)}
        async with cached([one.url], tmp_path / "cache", **more) as node:
            for name in (REG, OTHER):
                got = await node.get(blob(digest, registry=name), keep_body=False)
                assert (got.status, got.sha256, way(got)) == (200, digest, "miss")
            if not restarted:
                await _assert_hits(node, digest)
        if restarted:
            async with cached([one.url], tmp_path / "cache", **more) as node:
                await _assert_hits(node, digest)
        assert [len(server.record.of("blob", "GET")) for server in (one, other)] == [1, 1]


async def _assert_hits(node: NodeClient, digest: str) -> None:
    for name in (REG, OTHER):
        got = await node.get(blob(digest, registry=name), keep_body=False)
        assert (got.sha256, way(got)) == (digest, "hit")


async def test_a_body_of_two_origins_counts_only_where_both_belong(tmp_path: Path) -> None:
    """A hostile second endpoint delivers the tail: the first one has not proved that it holds the whole."""
    async with two() as (good, evil):
        digest = good.add_blob(UPSTREAM, LARGE).digest
        evil.add_blob(UPSTREAM, LARGE)
        registries = routes({REG: [good], OTHER: [good, evil], "evil.example": [evil]})
        good.script(BLOB.nth(1), Cut(2 * MIB))
        async with cached([good.url], tmp_path / "cache", registries=registries, access=list(ALLOW)) as node:
            got = await node.get(blob(digest, registry=OTHER), keep_body=False)
            assert (got.sha256, way(got), len(evil.record.of("blob", "GET"))) == (digest, "miss", 1)
            assert way(await node.get(blob(digest, registry=OTHER), keep_body=False)) == "hit"
            for number, name in enumerate((REG, "evil.example"), start=1):
                got = await node.get(blob(digest, registry=name), keep_body=False)
                assert (got.sha256, way(got)) == (digest, "miss"), name
                assert len((good, evil)[number - 1].record.of("blob", "GET")) == 2
                assert way(await node.get(blob(digest, registry=name), keep_body=False)) == "hit"


@pytest.mark.parametrize("left", [3 * MIB, LARGE.size], ids=["a beginning", "all"])
async def test_a_part_that_was_left_behind_counts_for_the_whole_route_alone(tmp_path: Path, left: int) -> None:
    """A writer that was killed may have had it from any endpoint of its route."""
    async with two() as (good, evil):
        digest = good.add_blob(UPSTREAM, LARGE).digest
        evil.add_blob(UPSTREAM, LARGE)
        registries = routes({OTHER: [evil, good], REG: [good], "evil.example": [evil]})
        directory = tmp_path / "cache"
        domain = domain_name(frozenset(Origin.parse(server.url) for server in (good, evil)))
        async with cached([good.url], directory, registries=registries, access=list(ALLOW)) as node:
            part = Layout(directory).part(Digest.parse(digest), domain)
            await asyncio.to_thread(part.write_bytes, whole(LARGE)[:left])
            assert (await node.get(blob(digest, registry=OTHER), keep_body=False)).sha256 == digest
            ranges = [entry.headers["range"] for entry in evil.record.of("blob", "GET")]
            assert ranges == ([f"bytes={left}-"] if left < LARGE.size else [])
            assert way(await node.get(blob(digest, registry=OTHER), keep_body=False)) == "hit"
            for name in (REG, "evil.example"):
                got = await node.get(blob(digest, registry=name), keep_body=False)
                assert (got.sha256, way(got)) == (digest, "miss"), name


async def test_where_every_client_may_pull_everything_content_is_shared(tmp_path: Path) -> None:
    async with two() as (one, other):
        digest = one.add_blob(UPSTREAM, LARGE).digest
        other.add_blob(UPSTREAM, LARGE)
        registries = routes({REG: [one], OTHER: [other]})
        async with cached([one.url], tmp_path / "cache", registries=registries) as node:
            assert way(await node.get(blob(digest), keep_body=False)) == "miss"
            got = await node.get(blob(digest, registry=OTHER), keep_body=False)
            assert (got.sha256, way(got)) == (digest, "hit")
        assert not other.record.of("blob", "GET")


async def test_rules_that_come_with_a_reload_count_for_what_was_cached_before(tmp_path: Path) -> None:
    """What is delivered is recorded also while nobody needs to know."""
    async with two() as (one, other):
        digest = one.add_blob(UPSTREAM, LARGE).digest
        registries = routes({REG: [one], OTHER: [other]})
        other.script(on("HEAD", "blob"), claimed_size(digest, LARGE.size))
        more: Mapping[str, Any] = {"registries": registries}
        async with cached([one.url], tmp_path / "cache", **more) as node:
            assert way(await node.get(blob(digest), keep_body=False)) == "miss"
            await node.head(blob(digest, registry=OTHER))
        async with cached([one.url], tmp_path / "cache", access=list(ALLOW), **more) as node:
            assert (await node.get(blob(digest, registry=OTHER))).status == 404
            assert way(await node.get(blob(digest), keep_body=False)) == "hit"


async def test_what_was_evicted_leaves_no_record_behind(tmp_path: Path) -> None:
    async with ScriptedRegistry([], Rules(dialect="none")) as one:
        digests = [one.add_blob(UPSTREAM, Generated(MIB, seed=number)).digest for number in range(90, 98)]
        bounds = {"maxSize": "4Mi"}
        async with cached([one.url], tmp_path / "cache", cache=bounds, access=list(ALLOW)) as node:
            for digest in digests:
                assert (await node.get(blob(digest), keep_body=False)).sha256 == digest
            stored, known = tmp_path / "cache" / "blobs", tmp_path / "cache" / "provenance"

            def names(root: Path) -> set[str]:
                return {path.name for path in root.rglob("*") if path.is_file()}

            await eventually(lambda: names(known) == names(stored))
            assert 0 < len(names(stored)) < len(digests)
