"""Clients that do not read what they requested cost little memory, and never all of it."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from proxy.testbed.images import make_image
from proxy.testbed.record import Kind
from tests.cache.serving import cached, eventually, rest_of
from tests.cache.test_memory import resident
from tests.fakes.blobs import MIB
from tests.fakes.changes import Change, FlipByte, Reply
from tests.fakes.client import NodeClient, read_answer, read_head
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Interrupt
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, layer_of, manifest, metric, server_tuning, settings, started
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

CLIENTS = 100
ALLOWED = 64 * MIB
"""Growth of this process, in which the clients are too; a copy of the manifest for each would be 400 MiB."""


def held(registry: ScriptedRegistry, tag: str) -> str:
    """Have the registry hold a manifest of almost 4 MiB; its digest."""
    image = make_image(UPSTREAM, tag, extra={"annotations": {"a": tag * (4 * MIB - 4096)}})
    registry.library.add(image)
    return image.digest


FRAMES = {
    *("frame", "traceback", "NodeConnection", "NodeRequest", "Responder", "RequestRecord"),
    *("Responses", "EndpointRequest", "UpstreamResponse", "ResumingBody", "Progress"),
}
FAULTS: dict[str, Change | Interrupt | None] = {
    "a response": None,
    "not found": Reply(404),
    "refused": Reply(403),
    "failed": Reply(500),
    "another digest": FlipByte("middle"),
    "no response": Cut(BEFORE_HEADERS),
    "cut": Cut(10),
}
REPEATED = 4


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("kind", ["manifest", "blob"])
@pytest.mark.parametrize("has_cache", [False, True], ids=["uncached", "cached"])
async def test_nothing_is_left_of_a_request_for_the_garbage_collector(
    plain: ScriptedRegistry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    has_cache: bool,
    kind: Kind,
    fault: Change | Interrupt | None,
) -> None:
    """It comes rarely: what waits for it is as good as lost, and 40 errors about manifests held 160 MiB."""
    caplog.set_level(logging.ERROR)  # pytest keeps the records, and they what they name
    images = [make_image(UPSTREAM, str(number)) for number in range(REPEATED + 1)]
    for held_image in images:
        plain.library.add(held_image)
    if fault is not None:
        plain.script(on("GET", kind=kind), fault)
    first, *others = [manifest(each.digest) if kind == "manifest" else blob(layer_of(each)[0]) for each in images]
    section = {"cache": {"path": str(tmp_path)}} if has_cache else {}
    async with started(settings([plain.url], **section)) as proxy:
        await proxy.node.get(first)
        gc.collect()
        gc.disable()
        for target in others:
            assert ((await proxy.node.get(target)).status == 200) == (fault is None)
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            left = {type(found).__name__ for found in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not left & FRAMES


@asynccontextmanager
async def not_reading(node: NodeClient, target: str) -> AsyncIterator[None]:
    """A client that has read the head of its answer and nothing more."""
    async with node.opened("GET", target, receive_buffer=4096) as (reader, _):
        status, _, _ = await read_head(reader)
        assert status == 200
        yield


async def test_a_large_manifest_that_many_do_not_read_is_held_once(plain: ScriptedRegistry, tmp_path: Path) -> None:
    target = manifest(held(plain, "2"))
    async with cached([plain.url], tmp_path) as node:
        assert (await node.get(target, keep_body=False)).status == 200
        gc.collect()
        before = resident()
        async with AsyncExitStack() as stack:
            for _ in range(CLIENTS):
                await stack.enter_async_context(not_reading(node, target))
            assert resident() - before < ALLOWED
            assert (await node.get(target, keep_body=False)).status == 200


async def test_who_does_not_read_is_cut_in_the_end(plain: ScriptedRegistry) -> None:
    target = manifest(held(plain, "2"))
    before = metric("scope_proxy_http_aborted_total", reason="client_gone")
    async with (
        started(settings([plain.url], timeouts={"clientStall": "300ms"})) as proxy,
        proxy.node.opened("GET", target, receive_buffer=4096) as (reader, _),
    ):
        await eventually(lambda: metric("scope_proxy_http_aborted_total", reason="client_gone") == before + 1)
        assert len(await rest_of(reader)) < 4 * MIB


async def test_when_too_much_is_held_large_answers_are_503_and_small_ones_go_on(
    plain: ScriptedRegistry,
) -> None:
    first, second = manifest(held(plain, "2")), manifest(held(plain, "3"))
    async with started(settings([plain.url]), tuning=server_tuning(held_bodies=6 * MIB)) as proxy:
        async with not_reading(proxy.node, first):
            got = await proxy.node.get(second)
            assert (got.status, got.code, got.header("Retry-After")) == (503, "TOOMANYREQUESTS", "2")
            assert (await proxy.node.get(manifest())).status == 200
        await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route="manifest") == 0)
        async with proxy.node.opened("GET", second) as (reader, _):
            assert (await read_answer(reader, "GET", keep_body=False)).status == 200
