"""`/status/images`: the cached images over HTTP, for people and for scripts."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.images import Image, make_image
from tests.fakes.blobs import MIB
from tests.fakes.client import Got
from tests.fakes.proxy import NAME, REG, UPSTREAM, ProxyUnderTest, blob, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.integration.test_status import BROWSER, JSON, ask

IMAGE = f"{REG}/{NAME}:1"


@pytest.fixture
async def proxy(plain: ScriptedRegistry, image: Image, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy that has stored one image whole and of another one only the manifest; one is pinned."""
    other = make_image(UPSTREAM, "2")
    plain.library.add(other)
    cache = {"path": str(tmp_path / "cache"), "reserveFree": "1Ki", "keep": [IMAGE]}
    async with started(settings([plain.url], cache=cache)) as running:
        for target in (manifest("2"), manifest(), *map(blob, image.blobs)):
            assert (await running.node.get(target)).status == 200
        yield running


async def listed(proxy: ProxyUnderTest, query: str = "") -> tuple[Got, dict[str, Any]]:
    got = await ask(proxy.admin, f"/status/images{query}", JSON)
    return got, json.loads(got.body)


async def test_lists_images_by_the_names_of_nodes_most_recently_used_first(proxy: ProxyUnderTest, image: Image) -> None:
    got, data = await listed(proxy)
    assert (got.status, data["total"]) == (200, 2)
    first, second = data["images"]
    assert (first["image"], first["upstream"]) == (IMAGE, f"{REG}/{UPSTREAM}:1")
    assert (first["complete"], first["pinned"], first["platforms"]) == (True, True, [image.platform])
    assert (second["image"], second["complete"], second["pinned"]) == (f"{REG}/{NAME}:2", False, False)
    assert first["size"] == len(image.manifest) + sum(map(len, image.blobs.values()))


@pytest.mark.parametrize(("pattern", "tags"), [(f"{REG}/**:1", ["1"]), (f"{REG}/*", []), ("**/app", ["1", "2"])])
async def test_filters_by_a_pattern(proxy: ProxyUnderTest, pattern: str, tags: list[str]) -> None:
    _, data = await listed(proxy, f"?pattern={pattern}")
    assert [item["image"].rpartition(":")[2] for item in data["images"]] == tags


@pytest.mark.parametrize("pattern", ["two%20words", "nginx:*", "%00", "x" * 3000])
async def test_says_what_is_wrong_with_a_pattern(proxy: ProxyUnderTest, pattern: str) -> None:
    got, data = await listed(proxy, f"?pattern={pattern}")
    assert (got.status, data["images"], bool(data["error"])) == (400, [], True)


async def test_page_shows_the_list_and_escapes_the_pattern(proxy: ProxyUnderTest) -> None:
    got = await ask(proxy.admin, "/status/images?pattern=%3Cscript%3E*", BROWSER)
    assert got.header("Content-Type") == "text/html; charset=utf-8"
    assert b"<script>" not in got.body
    assert IMAGE in (await ask(proxy.admin, "/status/images", BROWSER)).body.decode()
    assert 'href="status/images"' in (await ask(proxy.admin, "/status", BROWSER)).body.decode()


async def test_without_a_cache_there_is_no_list(plain: ScriptedRegistry) -> None:
    async with started({**settings([plain.url]), "cache": None}) as proxy:
        got, data = await listed(proxy)
    assert (got.status, data["total"]) == (400, 0)


async def test_pins_that_fill_the_cache_are_a_finding(plain: ScriptedRegistry, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(8 * MIB)  # noqa: S311 - content that does not compress
    large = make_image(UPSTREAM, "large", {"file": content})
    plain.library.add(large)
    cache = {"path": str(tmp_path / "cache"), "keep": [f"{REG}/**"], "maxSize": "8.7Mi"}
    async with started(settings([plain.url], cache=cache)) as proxy:
        for target in (manifest("large"), *map(blob, large.blobs)):
            assert (await proxy.node.get(target)).status == 200
    async with started(settings([plain.url], cache=cache)) as proxy:  # which has not read the pins yet
        status = json.loads((await ask(proxy.admin, "/status.json")).body)
    assert status["store"]["pins"]
    [level] = [found["level"] for found in status["findings"] if status["store"]["pins"][1:] in found["text"]]
    assert level == "warning"
