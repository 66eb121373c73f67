"""A hit obeys the rights of a miss: with a warm cache nobody gets what the upstream would not give."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.testbed.images import make_image
from proxy.testbed.tokens import Account
from tests.cache.serving import BLOB, reading, rest_of, way
from tests.fakes.blobs import MIB, Generated
from tests.fakes.client import WITHIN, Got, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Stall
from tests.fakes.matching import Match
from tests.fakes.proxy import blob, layer_of, manifest, metric, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import (
    DIALECTS,
    GUEST,
    OWNER,
    PRIVATE,
    PUBLIC,
    SECOND,
    STRANGERS,
    Scene,
    login,
    revoke,
    scene,
    warm,
)

pytestmark = pytest.mark.security

LARGE = Generated(8 * MIB + 5, seed=31)
ATTEMPTS = [
    *("tag", "tag-head", "digest", "digest-head", "digest-of-the-other", "upstream-name"),
    *("blob", "blob-head", "blob-range", "blob-of-the-other", "blob-range-of-the-other", "blob-head-of-the-other"),
    *("manifest-as-blob", "tags", "referrers"),
]
AT_ONCE = {"proofAge": "50ms"}


@pytest.fixture(params=DIALECTS)
async def played(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """A warm cache in front of each kind of registry."""
    async with scene(tmp_path / "cache", DIALECTS[request.param]) as started:
        await warm(started)
        yield started


def assert_nothing(got: Got, played: Scene) -> None:
    """A refusal that holds nothing of the private image."""
    assert got.status in {401, 403, 404}, got
    assert played.private.manifest not in got.body
    assert not any(content in got.body for content in played.private.blobs.values())
    assert got.header("X-Cache") is None
    assert got.header("Content-Range") is None


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_strangers_get_nothing_from_a_warm_cache(played: Scene, stranger: str) -> None:
    assert list(played.attempts()) == ATTEMPTS
    for method, target, headers in played.attempts().values():
        assert_nothing(await played.node.send(method, target, *headers, *STRANGERS[stranger]), played)


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_each_way_to_ask_is_refused_also_right_after_the_owner(tmp_path: Path, attempt: str) -> None:
    async with scene(tmp_path / "cache") as played:
        await warm(played)
        method, target, headers = played.attempts()[attempt]
        async with asyncio.TaskGroup() as tasks:
            allowed = tasks.create_task(played.node.send(method, target, *headers, login(OWNER)))
            refused = tasks.create_task(played.node.send(method, target, *headers, login(GUEST)))
        assert_nothing(refused.result(), played)
        assert allowed.result().status in ({404} if "other" in attempt or "as-blob" in attempt else {200, 206})


async def test_who_has_the_right_gets_hits_without_asking_each_time(played: Scene) -> None:
    digest, content = layer_of(played.private)
    played.registry.record.clear()
    for _ in range(3):
        got = await played.node.get(blob(digest, PRIVATE), login(OWNER))
        assert (got.status, got.body, way(got)) == (200, content, "hit")
    assert played.registry.record.all() == ()


async def test_each_client_proves_its_own_right_and_gets_a_token_of_its_own(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        await warm(played)
        played.registry.record.clear()
        got = await played.node.get(manifest(name=PRIVATE), login(SECOND))
        assert (got.status, way(got)) == (200, "hit")
        assert [(call.kind, call.credential) for call in played.registry.record.of("token")] == [
            ("token", "basic second")
        ]
        assert {call.scopes for call in played.registry.record.tokens} == {("repository:team/app:pull",)}


async def test_a_blob_is_served_only_through_a_repository_that_holds_it(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        await warm(played)
        digest, _ = layer_of(played.private)
        assert (await played.node.get(blob(digest, PUBLIC), login(OWNER))).status == 404
        assert (await played.node.get(blob(digest, PRIVATE), login(OWNER))).status == 200


async def test_without_a_cache_too_nobody_learns_which_digests_others_have_pulled() -> None:
    private, public = make_image("team/app", "1"), make_image("team/open", "1")
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "upstream"}}
    unknown = f"sha256:{'5' * 64}"
    async with (
        ScriptedRegistry([private, public], DIALECTS["strict"]) as registry,
        started(settings([registry.url], listeners=[listener])) as proxy,
    ):
        for name in (PRIVATE, PUBLIC):
            assert (await proxy.node.get(manifest(name=name), login(OWNER))).status == 200
        responses = [await proxy.node.get(blob(digest, PUBLIC), login(OWNER)) for digest in (private.digest, unknown)]
    assert [(got.status, got.code) for got in responses] == [(404, "BLOB_UNKNOWN")] * 2
    assert responses[0].error["message"].replace(private.digest, unknown) == responses[1].error["message"]


async def test_join_of_a_download_in_flight_needs_the_same_right(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        digest = played.registry.add_blob("team/app", LARGE).digest
        until, reached = asyncio.Event(), asyncio.Event()
        played.registry.script(BLOB, Stall(MIB, until, reached))
        async with asyncio.TaskGroup() as tasks:
            owner = tasks.create_task(played.node.get(blob(digest, PRIVATE), login(OWNER), keep_body=False))
            await reached.wait()
            for headers in ((), (("Range", "bytes=5-"),)):
                for name in (PRIVATE, PUBLIC):
                    got = await played.node.get(blob(digest, name), *headers, login(GUEST))
                    assert got.status in {403, 404}
            until.set()
        assert (owner.result().status, owner.result().sha256) == (200, digest)


async def test_follower_goes_on_when_the_starter_has_lost_its_right(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache", clients=AT_ONCE) as played:
        digest = played.registry.add_blob("team/app", LARGE).digest
        until = asyncio.Event()
        played.registry.script(BLOB.times(1), Stall(2 * MIB, until), Cut(2 * MIB))
        async with reading(played.node, blob(digest, PRIVATE), MIB, login(OWNER)) as (_, reader, _):
            async with asyncio.TaskGroup() as tasks:
                joined = tasks.create_task(played.node.get(blob(digest, PRIVATE), login(SECOND), keep_body=False))
                await played.registry.record.wait(2, "blob", "HEAD")
                revoke(played.registry, SECOND)
                played.registry.revoke_tokens()
                until.set()
            await rest_of(reader)
        assert (joined.result().status, joined.result().sha256) == (200, digest)


async def test_taking_the_right_away_ends_access_within_the_age_of_a_proof(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache", clients=AT_ONCE) as played:
        await warm(played)
        revoke(played.registry, GUEST)  # tokens given before stay good, as with real token servers
        attempts = played.attempts().values()
        for method, target, headers in attempts:
            await refused(played.node, method, target, *headers, login(OWNER))
        again = [await played.node.send(method, target, *headers, login(OWNER)) for method, target, headers in attempts]
        assert {got.status for got in again} <= {403, 404}


def unreachable(played: Scene) -> None:
    """Let the upstream close every connection."""
    played.registry.script(Match(), Cut(BEFORE_HEADERS))


async def eventually_refused(played: Scene, account: Account) -> None:
    """Ask until the proof has aged."""
    async with asyncio.timeout(WITHIN):
        while (await played.node.get(manifest(name=PRIVATE), login(account))).status == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def refused(node: NodeClient, method: str, target: str, *headers: tuple[str, str]) -> None:
    """Ask until it is refused."""
    async with asyncio.timeout(WITHIN):
        while (await node.send(method, target, *headers)).status not in {403, 404}:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("policy", ["deny", "lastProof"])
async def test_upstream_out_of_reach(tmp_path: Path, policy: str) -> None:
    digest = ""
    async with scene(tmp_path / "cache", clients={**AT_ONCE, "whenUnreachable": policy}) as played:
        await warm(played)
        digest, content = layer_of(played.private)
        unreachable(played)
        if policy == "deny":
            await eventually_refused(played, OWNER)
        owner = await played.node.get(blob(digest, PRIVATE), login(OWNER))
        tag = await played.node.get(manifest(name=PRIVATE), login(OWNER))
        other = await played.node.get(blob(digest, PRIVATE), login(SECOND))
        if policy == "deny":
            assert (owner.status, tag.status) == (503, 503)
        else:
            assert (owner.status, owner.body, tag.status) == (200, content, 200)
        assert other.status == 503


async def test_a_refusal_ends_the_last_proof(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache", clients={**AT_ONCE, "whenUnreachable": "lastProof"}) as played:
        await warm(played)
        digest, _ = layer_of(played.private)
        revoke(played.registry, GUEST)
        await refused(played.node, "GET", blob(digest, PRIVATE), login(OWNER))
        unreachable(played)
        assert (await played.node.get(blob(digest, PRIVATE), login(OWNER))).status in {403, 503}


async def test_stale_tags_are_not_for_who_is_refused(tmp_path: Path) -> None:
    settings = {"tagAge": "0s", "staleIfDenied": True}
    async with scene(tmp_path / "cache", clients=AT_ONCE, cache=settings) as played:
        await warm(played)
        revoke(played.registry, GUEST)
        await refused(played.node, "GET", manifest(name=PRIVATE), login(OWNER))
        assert (await played.node.get(manifest(name=PRIVATE), login(OWNER))).status == 403


async def test_credentials_of_the_configuration_are_not_for_clients_with_their_own(tmp_path: Path) -> None:
    robot = {"username": OWNER.username, "password": OWNER.password}
    async with scene(tmp_path / "cache", login=robot) as played:
        for stranger in ("anonymous", "wrong-password", "other-user"):
            got = await played.node.get(manifest(name=PRIVATE), *STRANGERS[stranger])
            assert got.status == 403
        assert "basic owner" not in {call.credential for call in played.registry.record.of("token")[1:]} - {
            "basic owner"  # the wrong password carries the owner's name
        }
        assert {call.status for call in played.registry.record.tokens if call.credential == "basic owner"} <= {401}


async def test_a_refusal_of_one_is_not_a_refusal_of_another(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        target = manifest("absent", PRIVATE)
        assert (await played.node.get(target, login(GUEST))).status == 403
        assert (await played.node.get(target, login(OWNER))).status == 404
        assert (await played.node.get(target, login(GUEST))).status == 403
        assert (await played.node.get(manifest(name=PRIVATE), login(OWNER))).status == 200


async def test_an_error_says_that_the_secret_is_the_clients_own(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        got = await played.node.get(manifest(name=PRIVATE), login(GUEST))
        assert got.status == 403
        assert "as guest" in got.reason
        assert "imagePullSecret" in got.error["detail"]["credential"]


async def test_proofs_are_counted(tmp_path: Path) -> None:
    names = ("given", "known", "refused")
    before = [metric("scope_proxy_client_proofs_total", result=name) for name in names]
    async with scene(tmp_path / "cache") as played:
        await played.node.get(manifest(name=PRIVATE), login(OWNER))
        await played.node.get(manifest(name=PRIVATE), login(OWNER))
        await played.node.get(manifest(name=PRIVATE), login(GUEST))
    after = [metric("scope_proxy_client_proofs_total", result=name) for name in names]
    assert [later - earlier for later, earlier in zip(after, before, strict=True)] == [1, 1, 1]
