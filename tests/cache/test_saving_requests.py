"""With few requests left at a registry, known tags are served stale rather than spent on confirmations."""

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.testbed.images import Image, make_image
from tests.cache.serving import cached, way
from tests.fakes.canaries import Written
from tests.fakes.changes import SetHeader
from tests.fakes.client import Got, NodeClient
from tests.fakes.matching import on
from tests.fakes.metered import WINDOW, Metered
from tests.fakes.proxy import AT_ONCE, UPSTREAM, MovedClock, manifest
from tests.fakes.registry import ScriptedRegistry

ALWAYS = {"tagAge": "0s", "negativeAge": "0s"}
"""Tags are confirmed at each pull."""
MANIFEST = on(None, "manifest")
OTHER = make_image(UPSTREAM, "1", extra={"annotations": {"moved": "yes"}})


def requests(registry: ScriptedRegistry) -> list[str]:
    return [entry.method for entry in registry.record.of("manifest")]


def is_stale(got: Got, image: Image) -> bool:
    warning = got.header("Warning")
    return (got.status, way(got), warning, got.body) == (
        200,
        "stale",
        '110 scope-proxy "Response is Stale"',
        image.manifest,
    )


async def pulls(node: NodeClient, times: int) -> list[str | None]:
    return [way(await node.get(manifest())) for _ in range(times)]


async def test_where_head_is_counted_the_rest_is_spread_over_the_window(
    plain: ScriptedRegistry, directory: Path, image: Image, logs: Written
) -> None:
    """Six hours for nine requests: one confirmation each forty minutes at the most."""
    clock, meter = MovedClock(), Metered(100, 12, counts_head=True)
    plain.script(MANIFEST, meter)
    async with cached([plain.url], directory, cache=ALWAYS, tuning=replace(AT_ONCE, clock=clock)) as node:
        assert await pulls(node, 2) == ["miss", "hit"]  # by HEAD and GET; then HEAD, with ten left
        assert meter.remaining == 9
        for _ in range(5):
            assert is_stale(await node.get(manifest()), image)
        assert requests(plain) == ["HEAD", "GET", "HEAD"]
        clock.move(WINDOW / 9)
        assert await pulls(node, 3) == ["hit", "stale", "stale"]
        assert requests(plain) == ["HEAD", "GET", "HEAD", "HEAD"]
    assert [line for line in logs.lines if "limits requests (anonymous): 10 of 100 requests are left" in line]


async def test_stale_rather_than_429_until_the_window_resets(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    clock, meter = MovedClock(), Metered(100, 2, counts_head=True)
    plain.script(MANIFEST, meter)
    async with cached([plain.url], directory, cache=ALWAYS, tuning=replace(AT_ONCE, clock=clock)) as node:
        assert await pulls(node, 1) == ["miss"]
        plain.add(OTHER)
        for moved in (0, WINDOW / 2, WINDOW / 2 - 60):
            clock.move(moved)
            assert is_stale(await node.get(manifest()), image)
        assert requests(plain) == ["HEAD", "GET"]
        meter.remaining = 100
        clock.move(120)
        assert (await node.get(manifest())).body == OTHER.manifest


async def test_where_head_is_not_counted_tags_stay_fresh(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    """As at Docker Hub: HEAD shows that the tag is where it was; only with no pull left nothing is requested."""
    meter = Metered(100, 10)
    plain.script(MANIFEST, meter)
    async with cached([plain.url], directory, cache=ALWAYS) as node:
        assert await pulls(node, 6) == ["miss", "hit", "hit", "hit", "hit", "hit"]
        assert (meter.remaining, requests(plain)) == (9, ["HEAD", "GET", *["HEAD"] * 5])
        meter.remaining = 1
        assert await pulls(node, 1) == ["hit"]
        plain.add(OTHER)
        for _ in range(3):
            assert is_stale(await node.get(manifest()), image)
        assert requests(plain) == ["HEAD", "GET", *["HEAD"] * 6]


async def test_with_enough_left_and_without_stale_tags_nothing_changes(
    plain: ScriptedRegistry, directory: Path
) -> None:
    meter = Metered(100, 50, counts_head=True)
    plain.script(MANIFEST, meter)
    async with cached([plain.url], directory / "a", cache=ALWAYS) as node:
        assert await pulls(node, 4) == ["miss", "hit", "hit", "hit"]
    meter.remaining = 6
    async with cached([plain.url], directory / "b", cache={**ALWAYS, "staleIfError": "0s"}) as node:
        assert await pulls(node, 5) == ["miss", "hit", "hit", "hit", "hit"]
    assert meter.remaining == 0


async def test_an_image_that_is_not_known_is_pulled_with_what_is_left(plain: ScriptedRegistry, directory: Path) -> None:
    plain.script(MANIFEST, Metered(100, 5, counts_head=True))
    new = make_image(UPSTREAM, "2")
    plain.add(new)
    async with cached([plain.url], directory, cache=ALWAYS) as node:
        assert await pulls(node, 3) == ["miss", "hit", "stale"]
        got = await node.get(manifest("2"))
        assert (way(got), got.body) == ("miss", new.manifest)


async def test_another_endpoint_with_requests_left_confirms(
    plain: ScriptedRegistry, second: ScriptedRegistry, directory: Path
) -> None:
    plain.script(MANIFEST, Metered(100, 1))
    async with cached([plain.url, second.url], directory, cache=ALWAYS) as node:
        assert await pulls(node, 3) == ["miss", "hit", "hit"]


@pytest.mark.parametrize(
    "header",
    [
        ("ratelimit-remaining", "few"),
        ("ratelimit-remaining", "-1"),
        ("ratelimit-remaining", "0" * 5000),
        ("ratelimit-remaining", "٣"),
        ("ratelimit-limit", "100;w=21600"),
        ("ratelimit-reset", "0"),
    ],
)
async def test_malformed_headers_change_nothing(
    plain: ScriptedRegistry, directory: Path, header: tuple[str, str]
) -> None:
    plain.script(MANIFEST, SetHeader(*header))
    async with cached([plain.url], directory, cache=ALWAYS) as node:
        assert await pulls(node, 3) == ["miss", "hit", "hit"]
