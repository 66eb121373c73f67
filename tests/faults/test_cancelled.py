"""Requests that are cancelled at any step of the event loop give back every connection and every place, once."""

import asyncio
import gc
import json

import aiohttp
import pytest

from proxy.config.load import parse_config
from proxy.oci.byterange import ByteRange
from proxy.oci.reference import Digest, Tag
from proxy.runtime.assemble import engine, with_routes
from proxy.server.handlers import Pulls
from proxy.testbed.images import Image
from tests.cache.serving import eventually
from tests.fakes.changes import Change, FlipByte
from tests.fakes.matching import on
from tests.fakes.proxy import LOGIN, NAME, REG, layer_of, metric, settings
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.slow

STEPS = 90
"""More than any of these pulls takes."""


def open_responses() -> list[aiohttp.ClientResponse]:
    """Every response in this process that still holds a connection."""
    responses = (found for found in gc.get_objects() if type(found) is aiohttp.ClientResponse)
    return [response for response in responses if response.connection is not None]


async def pull(pulls: Pulls, image: Image, what: str) -> None:
    route = pulls.routes.resolve(NAME, namespace=REG, host=None)
    digest, _ = layer_of(image)
    match what:
        case "manifest":
            await pulls.manifests.get(route, Tag.parse("1"), None)
        case "head":
            await pulls.manifests.head(route, Tag.parse("1"), None)
        case "size":
            await pulls.blobs.head(route, Digest.parse(digest))
        case "tags":
            await pulls.listings.tags(route, NAME, ())
        case _:
            wanted = ByteRange(5) if what == "range" else None
            async with await pulls.blobs.get(route, Digest.parse(digest), wanted) as found:
                if found.content is None:
                    [_ async for _ in found.pieces()]


@pytest.mark.parametrize("fault", [None, FlipByte()], ids=["well", "wrong"])
@pytest.mark.parametrize("what", ["manifest", "head", "size", "tags", "blob", "range"])
async def test_a_cancelled_pull_gives_everything_back(
    registry: ScriptedRegistry,
    second: ScriptedRegistry,
    image: Image,
    what: str,
    fault: Change | None,
) -> None:
    if fault is not None:
        registry.script(on("GET"), fault)
    document = json.dumps(settings([registry.url, second.url], login=LOGIN, host={"maxConnections": 2}))
    loaded = await asyncio.to_thread(parse_config, document, "test.yaml")
    for steps in range(0, STEPS, 2):
        async with engine(loaded.config, None) as built:
            pulls = with_routes(built, loaded)
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(pull(pulls, image, what))
                for _ in range(steps):
                    await asyncio.sleep(0)
                is_done = task.done()
                task.cancel()
            # The request of a token continues for the next pull. A place that is released twice counts as -1.
            await eventually(lambda: metric("scope_proxy_upstream_in_flight", upstream=REG) == 0)
            await eventually(lambda: not open_responses())
            assert metric("scope_proxy_upstream_in_flight", upstream=REG) == 0
        if is_done:
            break
