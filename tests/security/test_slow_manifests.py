"""Large manifests that come slowly, or not at all, keep nobody else's from being read."""

import asyncio
from typing import Any

import pytest

from proxy.testbed.images import Image, make_image
from proxy.transport.limits import LARGE_AT_ONCE, LARGE_BODY, LARGE_SECONDS
from tests.cache.serving import eventually
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.proxy import REG, UPSTREAM, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

pytestmark = [pytest.mark.security, pytest.mark.slow]

ATTACKER, OTHER = "127.0.0.2", "127.0.0.3"
SLOW_REG = "slow.example"


def large(tag: str) -> Image:
    """An image whose manifest is a large body."""
    return make_image(UPSTREAM, tag, extra={"annotations": {"a": tag * (2 * LARGE_BODY // len(tag))}})


def two_registries(plain: ScriptedRegistry, second: ScriptedRegistry, **more: Any) -> dict[str, Any]:
    configured = settings([plain.url, second.url], timeouts={"manifest": "20s"}, **more)
    entry = configured["registries"][REG]
    configured["registries"] = {
        REG: {**entry, "endpoints": [plain.url]},
        SLOW_REG: {**entry, "endpoints": [second.url]},
    }
    return configured


@pytest.mark.parametrize("after", [LARGE_BODY // 2, LARGE_BODY + 70_000], ids=["small yet", "large already"])
@pytest.mark.parametrize("source", [OTHER, ATTACKER], ids=["of another address", "of the same address"])
async def test_those_of_a_registry_that_stalls_keep_no_place(
    plain: ScriptedRegistry, second: ScriptedRegistry, after: int, source: str
) -> None:
    wanted, stalling = large("wanted"), [large(f"stalls-{number}") for number in range(LARGE_AT_ONCE + 2)]
    plain.add(wanted)
    for image in stalling:
        second.add(image)
    until = asyncio.Event()
    second.script(on("GET", "manifest"), Stall(after, until))
    async with started(two_registries(plain, second)) as proxy, asyncio.TaskGroup() as tasks:
        node = proxy.node.at(ATTACKER)
        hanging = [tasks.create_task(node.get(manifest(image.digest, registry=SLOW_REG))) for image in stalling]
        await eventually(lambda: len(second.record.of("manifest", "GET")) >= len(stalling))
        got = await proxy.node.at(source).get(manifest(wanted.digest))
        assert (got.status, got.body) == (200, wanted.manifest)
        until.set()
        for task in hanging:
            task.cancel()


async def test_one_that_is_slow_is_read_to_its_end_where_nobody_waits(plain: ScriptedRegistry) -> None:
    wanted, until = large("wanted"), asyncio.Event()
    plain.add(wanted)
    plain.script(on("GET", "manifest"), Stall(LARGE_BODY + 70_000, until))
    async with started(settings([plain.url], timeouts={"manifest": "30s"})) as proxy:
        asyncio.get_running_loop().call_later(LARGE_SECONDS + 1, until.set)
        got = await proxy.node.get(manifest(wanted.digest))
        assert (got.status, got.body) == (200, wanted.manifest)
