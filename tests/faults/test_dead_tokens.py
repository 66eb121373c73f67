"""Tokens that die in the middle of a pull: the node sees nothing of it."""

import asyncio
from dataclasses import replace

import pytest

from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from tests.fakes.changes import Challenge, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import AT_ONCE, LOGIN, SCOPE, blob, manifest, settings, started
from tests.fakes.registry import DeadToken, ScriptedRegistry

DEAD_TOKENS: tuple[DeadToken, ...] = ("error", "no error", "400", "403", "basic", "no challenge")


@pytest.mark.parametrize("dead_token", DEAD_TOKENS)
async def test_a_revoked_token_is_replaced_once(
    node: NodeClient, registry: ScriptedRegistry, image: Image, dead_token: DeadToken
) -> None:
    assert (await node.get(manifest())).status == 200
    registry.revoke_tokens(dead_token)
    registry.record.clear()
    for digest, data in image.blobs.items():
        assert (await node.get(blob(digest))).body == data
    # The dead token, then none for a fresh challenge, then the new one; and for the second blob the new one at once.
    used = [entry.credential for entry in registry.record.of("blob")]
    assert used == ["bearer 1", "anonymous", "bearer 2", "bearer 2"]
    assert [entry.scope_parameters for entry in registry.record.tokens] == [(SCOPE,)]


@pytest.mark.parametrize("dead_token", ["error", "no error", "basic", "no challenge"])
async def test_a_revoked_token_is_replaced_on_head(
    node: NodeClient, registry: ScriptedRegistry, dead_token: DeadToken
) -> None:
    assert (await node.head(manifest())).status == 200
    registry.revoke_tokens(dead_token)
    assert (await node.head(manifest())).status == 200
    assert len(registry.record.tokens) == 2


@pytest.mark.parametrize("dead_token", ["400", "403"])
async def test_a_refused_head_tells_not_why_so_an_old_token_is_replaced(
    registry: ScriptedRegistry, dead_token: DeadToken
) -> None:
    tuning = replace(AT_ONCE, fresh_grant_seconds=0.0)
    async with started(settings([registry.url], login=LOGIN), tuning) as proxy:
        assert (await proxy.node.head(manifest())).status == 200
        registry.revoke_tokens(dead_token)
        assert (await proxy.node.head(manifest())).status == 200
    assert len(registry.record.tokens) == 2


async def test_many_requests_with_one_dead_token_ask_for_one_new(registry: ScriptedRegistry, image: Image) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        assert (await proxy.node.get(manifest())).status == 200
        registry.revoke_tokens()
        registry.script(on(kind="token"), Stall(BEFORE_HEADERS, until, reached))
        async with asyncio.TaskGroup() as tasks:
            requests = [tasks.create_task(proxy.node.get(manifest())) for _ in range(30)]
            await reached.wait()
            until.set()
    assert {request.result().body for request in requests} == {image.manifest}
    assert len(registry.record.tokens) == 2


async def test_a_token_that_the_server_takes_for_expired_at_once_ends_in_403(
    node: NodeClient, registry: ScriptedRegistry
) -> None:
    line = f'Bearer realm="{registry.realm}",service="strict-registry",scope="{SCOPE}",error="invalid_token"'
    registry.script(on(kind="manifest"), Challenge((line,)))
    got = await node.get(manifest())
    assert (got.status, got.code) == (403, "DENIED")
    assert (len(registry.record.of("manifest")), len(registry.record.tokens)) == (3, 2)
    for _ in range(10):
        assert (await node.get(manifest())).status == 403
    assert (len(registry.record.of("manifest")), len(registry.record.tokens)) == (3, 2)


@pytest.mark.parametrize("status", [400, 403])
async def test_a_refusal_that_does_not_speak_of_expiry_asks_for_no_new_token(
    node: NodeClient, registry: ScriptedRegistry, status: int
) -> None:
    assert (await node.get(manifest())).status == 200
    registry.script(on(kind="manifest"), Reply(status))
    got = await node.get(manifest())
    assert (got.status, got.code) == (403, "DENIED")
    assert len(registry.record.tokens) == 1


async def test_a_401_without_any_challenge_is_403(node: NodeClient, registry: ScriptedRegistry) -> None:
    registry.script(on(kind="manifest"), Challenge(()))
    for got in (await node.head(manifest()), await node.get(manifest())):
        assert (got.status, "answered 401" in got.reason) == (403, True)
    assert registry.record.tokens == ()


async def test_a_token_that_expires_by_itself_is_not_sent_again(image: Image) -> None:
    """A life of a second: the next request asks for a new token first."""
    now = [0.0]
    async with (
        ScriptedRegistry([image], Rules(expires_in=1), clock=lambda: now[0]) as registry,
        started(settings([registry.url])) as proxy,
    ):
        assert (await proxy.node.get(manifest())).status == 200
        now[0] = 2.0
        for digest, data in image.blobs.items():
            assert (await proxy.node.get(blob(digest))).body == data
        assert len(registry.record.tokens) == 2


@pytest.mark.parametrize("before", [True, False], ids=["in place of a dead one", "the first one"])
async def test_a_token_that_is_revoked_on_its_way_is_replaced_at_once(
    registry: ScriptedRegistry, image: Image, before: bool
) -> None:
    """Else the refusal would stand for a while, though the next token is good (found by the soak)."""
    until, reached = asyncio.Event(), asyncio.Event()
    async with started(settings([registry.url], login=LOGIN)) as proxy, asyncio.TaskGroup() as tasks:
        if before:
            assert (await proxy.node.get(manifest())).status == 200
            registry.revoke_tokens()
        registry.script(on(kind="token").times(1), Stall(BEFORE_HEADERS, until, reached))
        asking = tasks.create_task(proxy.node.get(manifest()))
        await reached.wait()
        registry.revoke_tokens()
        until.set()
        got = await asking
        assert (got.status, got.body) == (200, image.manifest)
        assert (await proxy.node.get(blob(next(iter(image.blobs))))).status == 200
        assert len(registry.record.tokens) == 2 + before
