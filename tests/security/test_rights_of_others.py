"""What one client does, or is refused, is nothing to another; and what looks like a yes is none."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.testbed.images import make_image
from proxy.testbed.tokens import Rules
from tests.cache.serving import BLOB, cached
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Change, Redirect, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import Match, on
from tests.fakes.proxy import REWRITES, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import ACCOUNTS, DIALECTS, GUEST, OWNER, PRIVATE, PUBLIC, SECOND, login, revoke, scene, warm

pytestmark = pytest.mark.security

LARGE = Generated(8 * MIB + 5, seed=71)
WRONG = replace(OWNER, password="canary-wrong")


async def test_a_proof_at_a_mirror_is_for_one_registry_alone(tmp_path: Path) -> None:
    image = make_image("team/app", "1")
    async with ScriptedRegistry([image], Rules(accounts=ACCOUNTS)) as registry:
        registry.script(on(kind="manifest").where(lambda call: call.value("ns") == "b.example"), Reply(403))
        entry = {"endpoints": [{"url": registry.url, "forwardNamespace": True}], "rewrites": list(REWRITES)}
        clients = {"address": "127.0.0.1:0", "clients": {"auth": "upstream"}}
        async with cached(
            [registry.url],
            tmp_path / "cache",
            registries={"a.example": entry, "b.example": entry},
            listeners=[clients],
        ) as node:
            one, other = (manifest(registry=name) for name in ("a.example", "b.example"))
            assert (await node.get(other, login(OWNER))).status == 403
            assert (await node.get(one, login(OWNER))).status == 200
            assert (await node.get(other, login(OWNER))).status == 403


async def test_the_limit_of_one_account_stops_nobody_else(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        await warm(played)
        is_guest = on(kind="token").where(lambda call: "guest" in played.registry.credential(call))
        played.registry.script(is_guest, Reply(429, headers=(("Retry-After", "200"),)))
        assert (await played.node.get(manifest(name=PUBLIC), login(GUEST))).status == 503
        assert (await played.node.get(manifest(name=PRIVATE), login(SECOND))).status == 200


async def test_a_limit_of_pulls_is_that_of_who_has_reached_it(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache", DIALECTS["basic"]) as played:
        await warm(played)
        is_guest = on(kind="manifest").where(lambda call: "guest" in played.registry.credential(call))
        played.registry.script(is_guest, Reply(429, headers=(("Retry-After", "200"),)))
        assert (await played.node.get(manifest(name=PUBLIC), login(GUEST))).status == 503
        assert (await played.node.get(manifest(name=PRIVATE), login(SECOND))).status == 200


async def test_a_refusal_that_comes_late_ends_the_last_proof_too(tmp_path: Path) -> None:
    settings = {"proofAge": "10ms", "whenUnreachable": "lastProof"}
    async with scene(tmp_path / "cache", clients=settings, timeouts={"blob": "2s"}) as played:
        await warm(played)
        digest, _ = layer_of(played.private)
        revoke(played.registry, GUEST)
        until, reached = asyncio.Event(), asyncio.Event()
        slow = played.registry.script(on(kind="token"), Stall(BEFORE_HEADERS, until, reached))
        while not reached.is_set():  # as long as a proof holds nobody asks
            got = await played.node.get(blob(digest, PRIVATE), login(OWNER))
            assert got.status == 200  # the last proof, while nobody knows
        until.set()
        assert slow.fired == 1
        assert (await played.node.get(blob(digest, PRIVATE), login(OWNER))).status == 403


async def test_downloads_that_fail_for_others_fail_nobody_else(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        digest = played.registry.add_blob("team/app", LARGE).digest
        await played.node.get(manifest(name=PUBLIC), login(GUEST))
        await played.node.get(manifest(name=PRIVATE), login(OWNER))
        async with asyncio.TaskGroup() as tasks:
            strangers = [tasks.create_task(_again_and_again(played.node, blob(digest, PUBLIC))) for _ in range(6)]
            got = await played.node.get(blob(digest, PRIVATE), login(OWNER), keep_body=False)
            await asyncio.gather(*strangers)
        assert (got.status, got.sha256) == (200, digest)


async def _again_and_again(node: NodeClient, target: str) -> None:
    for _ in range(5):
        assert (await node.get(target, login(GUEST))).status == 404


async def test_somebody_elses_failed_download_is_never_told(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        digest = played.registry.add_blob("team/app", LARGE).digest
        await played.node.get(manifest(name=PUBLIC), login(GUEST))
        await played.node.get(manifest(name=PRIVATE), login(OWNER))
        played.registry.script(BLOB.where(lambda call: call.repository == "team/open"), Reply(403))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(played.node.get(blob(digest, PUBLIC), login(GUEST)))
            target = blob(digest, PRIVATE)
            pulls = [tasks.create_task(played.node.get(target, login(OWNER), keep_body=False)) for _ in range(3)]
        assert {(task.result().status, task.result().sha256) for task in pulls} == {(200, digest)}


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, body=b"<html>log in</html>", content_type="text/html"),
        Reply(200, headers=(("Docker-Content-Digest", f"sha256:{'0' * 64}"),), body=b"{}"),
        Redirect("/login", 302),
    ],
    ids=["page", "other-digest", "redirect"],
)
async def test_a_page_to_log_in_proves_nothing(tmp_path: Path, answer: Change) -> None:
    async with scene(tmp_path / "cache", DIALECTS["basic"], host={"tokenMethod": "basic"}) as played:
        await warm(played)
        played.registry.script(Match(predicate=lambda call: call.path == "/login"), Reply(200, body=b"log in"))
        played.registry.script(Match(predicate=lambda call: not call.header("Authorization")), answer)
        digest, _ = layer_of(played.private)
        for target in (blob(digest, PRIVATE), manifest(played.private.digest, PRIVATE), manifest(name=PRIVATE)):
            got = await played.node.get(target, ("Authorization", "Basic Og=="))
            assert got.status == 502, target
            assert played.private.manifest not in got.body


async def test_what_one_endpoint_does_not_have_another_one_may(tmp_path: Path) -> None:
    first, second = make_image("team/app", "1"), make_image("team/app", "2")
    rules = Rules(accounts=ACCOUNTS)
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "upstream"}}
    async with (
        ScriptedRegistry([first], rules) as one,
        ScriptedRegistry([second], rules) as other,
        cached([one.url, other.url], tmp_path / "cache", listeners=[listener]) as node,
    ):
        assert (await node.get(manifest("1"), login(OWNER))).status == 200
        assert (await node.get(manifest("2"), login(OWNER))).status == 200
        assert (await node.get(blob(layer_of(second)[0]), login(OWNER))).status == 200
        assert (await node.get(manifest("3"), login(OWNER))).status == 404


async def test_one_wrong_password_is_tried_a_few_times_only(tmp_path: Path) -> None:
    for rules in (Rules(accounts=ACCOUNTS), Rules(accounts=ACCOUNTS, dialect="basic")):
        async with scene(tmp_path / f"cache-{rules.dialect}", rules) as played:
            for number in range(12):
                assert (await played.node.get(manifest(f"tag{number}", PRIVATE), login(WRONG))).status == 403
                assert (await played.node.get(manifest("1", f"library/app{number}"), login(WRONG))).status == 403
            tried = [call for call in played.registry.record.all() if call.credential == "basic owner"]
            assert 0 < len(tried) <= 6  # a HEAD that is refused may be tried as a GET
            assert (await played.node.get(manifest(name=PRIVATE), login(OWNER))).status == 200


async def test_who_has_just_pulled_is_not_held_back_by_refusals(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache", Rules(accounts=ACCOUNTS, refuse=401)) as played:
        assert (await played.node.get(manifest(name=PUBLIC), login(GUEST))).status == 200
        for number in range(8):
            assert (await played.node.get(manifest("1", f"library/app{number}"), login(GUEST))).status == 403
        played.registry.add(make_image("team/open", "2"))
        assert (await played.node.get(manifest("2", PUBLIC), login(GUEST))).status == 200
