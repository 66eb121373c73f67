"""What a full cache still serves while the registry is away: whole images, those that were used last."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.testbed.images import Image, make_image
from tests.cache.serving import cached
from tests.fakes.blobs import MIB
from tests.fakes.changes import Reply
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry

AWAY = Reply(503)
FULL = {"maxSize": "6Mi", "tagAge": "1h"}


@pytest.fixture
async def node(plain: ScriptedRegistry, directory: Path) -> AsyncIterator[NodeClient]:
    """A node of a proxy whose cache has room for two of the images."""
    async with cached([plain.url], directory, cache=FULL) as found:
        yield found


def held(registry: ScriptedRegistry, tag: str, *sizes: int) -> Image:
    chance = random.Random(tag)  # noqa: S311 - content that does not compress
    image = make_image(UPSTREAM, tag, {f"file{number}": chance.randbytes(size) for number, size in enumerate(sizes)})
    registry.library.add(image)
    return image


async def pull(node: NodeClient, image: Image) -> bool:
    """Whether the whole image comes, by its tag."""
    targets = [manifest(image.tag), manifest(image.digest), *map(blob, image.blobs)]
    return all([(got := await node.get(target)).status == 200 and got.whole for target in targets])


async def test_image_in_use_stays_whole_though_its_layers_are_not_requested(
    plain: ScriptedRegistry, node: NodeClient
) -> None:
    used, unused, new = (held(plain, tag, 2 * MIB) for tag in ("used", "unused", "new"))
    assert await pull(node, used)
    assert await pull(node, unused)
    assert (await node.head(manifest(used.tag))).status == 200  # a node that has its layers already
    assert await pull(node, new)
    plain.script(on(), AWAY)
    assert [await pull(node, image) for image in (used, unused, new)] == [True, False, True]


async def test_pinned_image_is_never_evicted(plain: ScriptedRegistry, directory: Path) -> None:
    pinned, *others = (held(plain, tag, 2 * MIB) for tag in ("pinned", "second", "third", "fourth"))
    keep = [f"{REG}/{NAME}:pinned"]
    async with cached([plain.url], directory, cache={**FULL, "keep": keep}) as node:
        for image in (pinned, *others):
            assert await pull(node, image)
        plain.script(on(), AWAY)
        assert [await pull(node, image) for image in (pinned, *others)] == [True, False, False, True]


async def test_pins_that_fill_the_cache_fail_no_pull(plain: ScriptedRegistry, directory: Path) -> None:
    images = [held(plain, tag, 2 * MIB) for tag in ("first", "second", "third", "fourth")]
    async with cached([plain.url], directory, cache={**FULL, "keep": [f"{REG}/**"]}) as node:
        assert [await pull(node, image) for image in images] == [True] * 4
        plain.script(on(), AWAY)
        assert [await pull(node, image) for image in images[:2]] == [True] * 2


async def test_evicted_image_is_pulled_again_without_a_counted_request(
    plain: ScriptedRegistry, directory: Path
) -> None:
    first, second, third = (held(plain, tag, 2 * MIB) for tag in ("first", "second", "third"))
    async with cached([plain.url], directory, cache=FULL) as node:
        for image in (first, second, third):
            assert await pull(node, image)
    async with cached([plain.url], directory, cache=FULL) as node:  # nothing is in memory
        assert await pull(node, first)
    assert len(plain.record.of("manifest", method="GET")) == 3


async def test_image_larger_than_the_cache_is_served(plain: ScriptedRegistry, node: NodeClient) -> None:
    chance = random.Random(1)  # noqa: S311 - as above
    layers = [make_image(UPSTREAM, f"layer{number}", {"file": chance.randbytes(MIB)}) for number in range(12)]
    for image in layers:
        plain.library.add(image)
        assert await pull(node, image)
    assert [await pull(node, image) for image in layers] == [True] * 12
