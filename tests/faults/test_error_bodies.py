"""Bodies of errors that stall or come in pieces, and requests that come back to the proxy itself."""

import asyncio

import pytest

from proxy.oci.errors import Denied
from proxy.testbed.images import Image
from proxy.transport.redirect import INSTANCE
from tests.fakes.changes import Redirect, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import LOGIN, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

BRIEF = {"manifest": "500ms", "blob": "500ms", "connect": "1s", "stall": "200ms", "shutdownGrace": "200ms"}
CONNECTIONS = 2
"""maxConnections of the host: a leak shows after so many requests."""


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_errors_whose_bodies_stall_cost_no_connection_for_good(
    plain: ScriptedRegistry, image: Image, status: int
) -> None:
    never = asyncio.Event()
    host = {"maxConnections": CONNECTIONS}
    async with started(settings([plain.url], timeouts=BRIEF, host=host)) as proxy:
        plain.script(on(kind="manifest"), Reply(status, body=b"x" * 1000), Stall(10, never))
        for _ in range(2 * CONNECTIONS):
            assert (await proxy.node.get(manifest())).status in {403, 404, 503, 504}
        plain.behave()
        assert (await proxy.node.get(manifest(image.digest))).status == 200


async def test_an_expired_token_is_noticed_when_the_error_comes_in_two_pieces(
    registry: ScriptedRegistry, image: Image
) -> None:
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        assert (await proxy.node.get(manifest())).status == 200
        between, reached = asyncio.Event(), asyncio.Event()
        body = b'{"errors": [{"code": "DENIED", "message": "Your authorization token has expired."}]}'
        registry.script(on("GET", "manifest").nth(1), Reply(403, body=body), Stall(30, between, reached))
        async with asyncio.TaskGroup() as tasks:
            pull = tasks.create_task(proxy.node.get(manifest()))
            await reached.wait()
            between.set()
        assert pull.result().body == image.manifest
        assert len(registry.record.tokens) == 2


async def test_an_object_store_does_not_silence_its_registry(
    near_plain: NodeClient, plain: ScriptedRegistry, store: ObjectStore, image: Image
) -> None:
    digest, _ = layer_of(image)
    plain.script(on("GET", "blob"), Redirect(store.signer(plain.library)))
    store.script(on(kind="object"), Reply(503, headers={"Retry-After": "3600"}))
    assert (await near_plain.get(blob(digest))).status == 503
    assert (await near_plain.get(manifest())).status == 200


async def test_a_request_that_comes_back_to_the_proxy_ends_there(plain: ScriptedRegistry) -> None:
    async with started(settings([plain.url])) as proxy:
        got = await proxy.node.get(manifest(), ("Via", f"1.1 other, 1.1 {INSTANCE}"))
        assert (got.status, got.code) == (Denied.status, Denied.code)
        assert "an endpoint of the registry is this proxy" in got.reason
        assert plain.record.all() == ()


async def test_another_proxy_on_the_way_is_passed_on_and_no_loop(plain: ScriptedRegistry, image: Image) -> None:
    async with started(settings([plain.url])) as proxy:
        assert (await proxy.node.get(manifest(), ("Via", "1.1 scope-proxy-of-the-node"))).body == image.manifest
        assert plain.record.all()[-1].headers["via"] == f"1.1 scope-proxy-of-the-node, 1.1 {INSTANCE}"
