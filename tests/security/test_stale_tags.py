"""A tag is served stale while its upstream is away, and never past a refusal or against what another worker knows."""

from pathlib import Path

import pytest

from proxy.testbed.images import Image, make_image
from tests.cache.serving import cached, way
from tests.fakes.changes import Change, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Interrupt
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import OWNER, PRIVATE, SECOND, login, revoke, scene, warm

pytestmark = pytest.mark.security

ALWAYS = {"tagAge": "0s", "staleAfter": "300ms", "negativeAge": "0s"}
"""Tags are confirmed at each pull."""
MOVED = make_image(UPSTREAM, "1", extra={"annotations": {"moved": "yes"}})
AWAY: tuple[Change | Interrupt, ...] = (Reply(503), Cut(BEFORE_HEADERS))


def refuse(registry: ScriptedRegistry, status: int) -> None:
    registry.behave()
    registry.script(on(kind="manifest"), Reply(status))


def vanish(registry: ScriptedRegistry, how: Change | Interrupt) -> None:
    registry.behave()
    registry.script(on(), how)


@pytest.mark.parametrize("away", AWAY, ids=["503", "cut"])
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_a_refusal_ends_what_an_outage_would_cover(
    plain: ScriptedRegistry, tmp_path: Path, image: Image, status: int, away: Change | Interrupt, restarted: bool
) -> None:
    directory = tmp_path / "cache"
    async with cached([plain.url], directory, cache=ALWAYS) as node:
        assert (await node.get(manifest())).status == 200
        refuse(plain, status)
        assert (await node.get(manifest())).status == 403
        vanish(plain, away)
        if not restarted:
            await _assert_not_served(node)
    if restarted:
        async with cached([plain.url], directory, cache=ALWAYS) as node:
            await _assert_not_served(node)
    async with cached([plain.url], directory, cache=ALWAYS) as node:
        plain.behave()
        assert (await node.get(manifest())).body == image.manifest
        vanish(plain, away)
        assert way(await node.get(manifest())) == "stale"  # a good answer has come since


async def _assert_not_served(node: NodeClient) -> None:
    for method in ("HEAD", "GET"):
        assert (await node.send(method, manifest())).status in {403, 502, 503, 504}  # a refusal is remembered


async def test_unless_the_operator_wants_it(plain: ScriptedRegistry, tmp_path: Path) -> None:
    async with cached([plain.url], tmp_path / "cache", cache={**ALWAYS, "staleIfDenied": True}) as node:
        assert (await node.get(manifest())).status == 200
        refuse(plain, 403)
        assert way(await node.get(manifest())) == "stale"
        vanish(plain, Reply(503))
        assert way(await node.get(manifest())) == "stale"


async def test_a_refusal_of_one_client_ends_nothing_for_another(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache", cache=ALWAYS) as played:
        await warm(played)
        assert (await played.node.get(manifest(name=PRIVATE), login(SECOND))).status == 200
        revoke(played.registry, SECOND)
        played.registry.revoke_tokens()
        assert (await played.node.get(manifest(name=PRIVATE), login(OWNER))).status == 403
        vanish(played.registry, Reply(503))
        got = await played.node.get(manifest(name=PRIVATE), login(SECOND))
        assert (got.status, way(got)) == (200, "stale")
        assert (await played.node.get(manifest(name=PRIVATE), login(OWNER))).status != 200


@pytest.mark.parametrize("away", AWAY, ids=["503", "cut"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_moved_tag_is_not_rolled_back_by_another_worker(
    plain: ScriptedRegistry, tmp_path: Path, image: Image, method: str, away: Change | Interrupt
) -> None:
    directory = tmp_path / "cache"
    async with (
        cached([plain.url], directory, cache=ALWAYS) as one,
        cached([plain.url], directory, cache=ALWAYS) as other,
    ):
        for node in (one, other):
            assert (await node.get(manifest())).header("Docker-Content-Digest") == image.digest
        plain.add(MOVED)
        assert (await other.get(manifest())).header("Docker-Content-Digest") == MOVED.digest
        vanish(plain, away)
        got = await one.send(method, manifest())
        assert (got.status, way(got), got.header("Docker-Content-Digest")) == (200, "stale", MOVED.digest)


@pytest.mark.parametrize("status", [404, 403, 401])
async def test_what_another_worker_has_learned_to_be_gone_or_refused_is_not_served(
    plain: ScriptedRegistry, tmp_path: Path, status: int
) -> None:
    directory = tmp_path / "cache"
    async with (
        cached([plain.url], directory, cache=ALWAYS) as one,
        cached([plain.url], directory, cache=ALWAYS) as other,
    ):
        for node in (one, other):
            assert (await node.get(manifest())).status == 200
        refuse(plain, status)
        assert (await other.get(manifest())).status in {403, 404}
        vanish(plain, Reply(503))
        for node in (one, other):
            assert (await node.get(manifest())).status in {403, 503}


async def test_what_could_not_be_written_counts_for_its_worker(
    plain: ScriptedRegistry, tmp_path: Path, image: Image
) -> None:
    """A disk that refuses to be written to leaves an older tag there: it does not roll this worker back."""
    directory = tmp_path / "cache"
    async with cached([plain.url], directory, cache=ALWAYS) as node:
        assert (await node.get(manifest())).header("Docker-Content-Digest") == image.digest
        (file,) = directory.glob("repositories/*/*/tags/1")
        before = file.read_bytes()
        plain.add(MOVED)
        assert (await node.get(manifest())).header("Docker-Content-Digest") == MOVED.digest
        file.write_bytes(before)
        vanish(plain, Reply(503))
        assert (await node.get(manifest())).header("Docker-Content-Digest") == MOVED.digest
