"""Tokens: one scope, one request for each repository and life, whoever asks and however many."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Rules
from tests.fakes.canaries import INBOUND, basic
from tests.fakes.changes import Reply
from tests.fakes.client import WITHIN, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import ACCOUNT, AT_ONCE, LOGIN, NAME, REG, SCOPE, MovedClock, blob, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry


async def pull(node: NodeClient, image: Image, name: str = NAME) -> None:
    """All requests of one pull."""
    assert (await node.head(manifest(image.tag, name))).status == 200
    assert (await node.get(manifest(image.digest, name))).body == image.manifest
    answers = await asyncio.gather(*(node.get(blob(digest, name)) for digest in image.blobs))
    assert [got.body for got in answers] == list(image.blobs.values())


async def test_a_pull_asks_for_one_scope_once(node: NodeClient, registry: ScriptedRegistry, image: Image) -> None:
    await pull(node, image)
    await pull(node, image)
    assert (await node.get(f"/v2/{NAME}/tags/list?ns={REG}")).status == 200
    assert [entry.scope_parameters for entry in registry.record.tokens] == [(SCOPE,)]
    assert [entry.credential for entry in registry.record.tokens] == ["basic robot"]


async def test_each_repository_gets_a_token_of_its_own(node: NodeClient, registry: ScriptedRegistry) -> None:
    images = [make_image(f"team/app{number}", "1") for number in range(3)]
    for made in images:
        registry.add(made)
    for made in (*images, *images):
        await pull(node, made, made.repository.replace("team/", "library/"))
    wanted = [(f"repository:{made.repository}:pull",) for made in images]
    assert [entry.scope_parameters for entry in registry.record.tokens] == wanted
    assert {(entry.repository, entry.credential) for entry in registry.record.of("blob") if entry.status == 200} == {
        (made.repository, f"bearer {number}") for number, made in enumerate(images, 1)
    }


async def test_100_requests_for_one_repository_share_one_token_request(
    node: NodeClient, registry: ScriptedRegistry, image: Image
) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on(kind="token"), Stall(BEFORE_HEADERS, until, reached))
    async with asyncio.TaskGroup() as tasks:
        requests = [tasks.create_task(node.get(manifest())) for _ in range(100)]
        await reached.wait()
        until.set()
    assert {request.result().body for request in requests} == {image.manifest}
    assert len(registry.record.tokens) == 1


@pytest.mark.slow
async def test_200_pulls_of_200_images_take_one_token_each(node: NodeClient, registry: ScriptedRegistry) -> None:
    images = [make_image(f"team/app{number}", "1") for number in range(200)]
    for made in images:
        registry.add(made)
    async with asyncio.TaskGroup() as tasks:
        for made in images:
            tasks.create_task(pull(node, made, made.repository.replace("team/", "library/")))
    assert len(registry.record.tokens) == 200
    assert registry.record.scopes == {f"repository:{made.repository}:pull" for made in images}


async def test_what_a_node_sends_as_authorization_goes_nowhere(
    node: NodeClient, registry: ScriptedRegistry, image: Image
) -> None:
    for value in (f"Basic {basic('node', INBOUND)}", f"Bearer {INBOUND}", INBOUND):
        for name in ("Authorization", "Proxy-Authorization", "Cookie", "X-Registry-Auth"):
            assert (await node.get(manifest(), (name, value))).body == image.manifest
    assert {entry.credential for entry in registry.record.of("manifest")} == {"anonymous", "bearer 1"}
    sent = {name for entry in registry.record.all() for name in entry.headers}
    assert sent == {"accept", "accept-encoding", "host", "user-agent", "via", "x-request-id"}


@pytest.fixture
def clock() -> MovedClock:
    """The clock by which grants expire."""
    return MovedClock()


@pytest.fixture
async def aging(clock: MovedClock, registry: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with that clock."""
    async with started(settings([registry.url], login=LOGIN), replace(AT_ONCE, clock=clock)) as proxy:
        yield proxy.node


async def test_a_token_is_renewed_once_in_the_background_before_it_expires(
    clock: MovedClock, aging: NodeClient, registry: ScriptedRegistry, image: Image
) -> None:
    await pull(aging, image)
    clock.move(275.0)  # of 300
    until, reached = asyncio.Event(), asyncio.Event()
    registry.script(on(kind="token"), Stall(BEFORE_HEADERS, until, reached))
    for _ in range(20):  # nobody waits for the new token
        assert (await aging.head(manifest())).status == 200
    await reached.wait()
    assert {entry.credential for entry in registry.record.of("manifest") if entry.status == 200} == {"bearer 1"}
    until.set()
    async with asyncio.timeout(WITHIN):
        while registry.record.of("manifest")[-1].credential != "bearer 2":
            assert (await aging.head(manifest())).status == 200
    assert len(registry.record.tokens) == 2


async def test_an_expired_token_is_not_sent(
    clock: MovedClock, aging: NodeClient, registry: ScriptedRegistry, image: Image
) -> None:
    await pull(aging, image)
    clock.move(301.0)
    assert (await aging.head(manifest())).status == 200
    assert [entry.credential for entry in registry.record.of("manifest")][-1] == "bearer 2"
    assert [entry.status for entry in registry.record.of("manifest")].count(401) == 1


async def test_a_failed_renewal_leaves_the_old_token_in_use(
    clock: MovedClock, aging: NodeClient, registry: ScriptedRegistry, image: Image
) -> None:
    await pull(aging, image)
    clock.move(275.0)
    registry.script(on(kind="token"), Reply(500))
    for _ in range(10):
        assert (await aging.head(manifest())).status == 200
    await registry.record.wait(2, "token")
    assert len(registry.record.tokens) == 2  # once in a while, however many pulls there are meanwhile
    assert registry.record.of("manifest")[-1].credential == "bearer 1"


async def test_a_registry_that_wants_no_token_gets_none(image: Image) -> None:
    async with (
        ScriptedRegistry([image], Rules(dialect="none")) as registry,
        started(settings([registry.url], login=LOGIN)) as proxy,
    ):
        await pull(proxy.node, image)
        assert {entry.credential for entry in registry.record.all()} == {"anonymous"}


@pytest.mark.parametrize("refuse", [401, 403, 404, 500])
async def test_the_strict_server_never_sees_what_the_node_requested(image: Image, refuse: int) -> None:
    async with (
        ScriptedRegistry([image], Rules(refuse=refuse, accounts=(ACCOUNT,))) as registry,
        started(settings([registry.url], login=LOGIN)) as proxy,
    ):
        await pull(proxy.node, image)
        assert registry.record.scopes == {SCOPE}
