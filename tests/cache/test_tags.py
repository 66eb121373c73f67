"""Tags: fresh for a while, then confirmed by one HEAD; stale while the upstream is in trouble."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.answer import Answer
from proxy.testbed.images import Image, make_image
from proxy.testbed.record import Call
from proxy.testbed.tokens import Rules
from tests.cache.serving import cached, way
from tests.fakes.changes import Change, DropHeader, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.scripted import Fault

ALWAYS_CHECKED = {"tagAge": "0s", "staleAfter": "300ms", "negativeAge": "0s"}
"""Tags are confirmed at each pull."""
OTHER = make_image(UPSTREAM, "1", extra={"annotations": {"moved": "yes"}})


def requests(registry: ScriptedRegistry) -> list[str]:
    return [entry.method for entry in registry.record.of("manifest")]


def is_stale(node_answer: Any, image: Image) -> bool:
    return (
        node_answer.status == 200
        and node_answer.header("Docker-Content-Digest") == image.digest
        and way(node_answer) == "stale"
        and node_answer.header("Warning") == '110 scope-proxy "Response is Stale"'
        and int(node_answer.header("Age")) >= 0
    )


async def test_a_fresh_tag_asks_nobody(node: NodeClient, plain: ScriptedRegistry, image: Image) -> None:
    cold = await node.get(manifest())
    assert (way(cold), cold.header("Age"), cold.body) == ("miss", None, image.manifest)
    assert requests(plain) == ["HEAD", "GET"]
    plain.add(OTHER)
    for _ in range(3):
        warm = await node.get(manifest())
        assert (way(warm), warm.header("Age"), warm.body) == ("hit", "0", image.manifest)
        assert way(await node.head(manifest())) == "hit"
    assert requests(plain) == ["HEAD", "GET"]


async def test_an_old_tag_is_confirmed_by_one_head(plain: ScriptedRegistry, directory: Path, image: Image) -> None:
    async with cached([plain.url], directory, cache=ALWAYS_CHECKED) as node:
        for _ in range(3):
            assert (await node.get(manifest())).body == image.manifest
    assert requests(plain) == ["HEAD", "GET", "HEAD", "HEAD"]


async def test_a_moved_tag_is_seen(plain: ScriptedRegistry, directory: Path, image: Image) -> None:
    async with cached([plain.url], directory, cache=ALWAYS_CHECKED) as node:
        assert (await node.get(manifest())).body == image.manifest
        plain.add(OTHER)
        got = await node.get(manifest())
        assert (way(got), got.body) == ("miss", OTHER.manifest)
        assert way(await node.get(manifest())) == "hit"


class NotModified(Change):
    """304 where the request names the very manifest."""

    def apply(self, call: Call, answer: Answer) -> Answer:
        etag = dict(answer.headers).get("Docker-Content-Digest", "")
        return Reply(304).apply(call, answer) if call.header("If-None-Match") == f'"{etag}"' else answer


async def test_without_a_digest_in_head_a_conditional_get_confirms(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    plain.script(on("HEAD", "manifest"), DropHeader("Docker-Content-Digest"))
    plain.script(on("GET", "manifest", reference="1"), NotModified())
    async with cached([plain.url], directory, cache=ALWAYS_CHECKED) as node:
        for _ in range(3):
            assert (await node.get(manifest())).body == image.manifest
        plain.add(OTHER)
        assert (await node.get(manifest())).body == OTHER.manifest
    assert [entry.status for entry in plain.record.of("manifest", "GET")] == [200, 304, 304, 200]


async def test_many_nodes_of_one_cold_tag_cost_one_head_and_one_get(
    node: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    plain.script(on("HEAD", "manifest"), Stall(BEFORE_HEADERS, until, reached))
    async with asyncio.TaskGroup() as tasks:
        pulls = [tasks.create_task(node.get(manifest())) for _ in range(10)]
        await reached.wait()
        pulls += [tasks.create_task(node.get(manifest())) for _ in range(10)]
        until.set()
    assert {pull.result().body for pull in pulls} == {image.manifest}
    assert {way(pull.result()) for pull in pulls} <= {"miss", "join", "hit"}
    assert requests(plain) == ["HEAD", "GET"]


TROUBLES: dict[str, Fault] = {
    "reset": Cut(BEFORE_HEADERS, reset=True),
    "500": Reply(500),
    "503": Reply(503),
    "429": Reply(429),
}


@pytest.mark.parametrize("trouble", [*TROUBLES, "html", "slow", "down"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_tag_is_served_stale_in_trouble_and_fresh_after_it(
    plain: ScriptedRegistry, directory: Path, image: Image, never: Stall, trouble: str, method: str
) -> None:
    faults: dict[str, Fault] = {**TROUBLES, "slow": never, "html": Reply(200, b"<html>")}
    fault = faults.get(trouble)
    times = {"blob": "2s"}  # for what was never pulled
    async with cached([plain.url], directory, cache=ALWAYS_CHECKED, timeouts=times) as node:
        await node.get(manifest())
        if fault is None:
            await plain.__aexit__(None, None, None)
        else:
            plain.script(on(), fault)
        for _ in range(2):
            assert is_stale(await node.send(method, manifest()), image)
        assert (await node.get(blob(layer_of(image)[0]))).status in {502, 503, 504}


async def test_what_confirms_late_takes_effect_later(plain: ScriptedRegistry, directory: Path, image: Image) -> None:
    until, reached = asyncio.Event(), asyncio.Event()
    async with cached([plain.url], directory, cache={**ALWAYS_CHECKED, "tagAge": "500ms"}) as node:
        got = await node.get(manifest())
        plain.add(OTHER)
        plain.script(on("HEAD"), Stall(BEFORE_HEADERS, until, reached))
        async with asyncio.timeout(20):
            while not reached.is_set():  # until the tag is no longer fresh
                got = await node.get(manifest())
        assert is_stale(got, image)
        until.set()
        async with asyncio.timeout(20):
            while (got := await node.get(manifest())).body != OTHER.manifest:
                assert got.body == image.manifest
        assert way(got) in {"hit", "miss", "join"}


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("allowed", [False, True])
async def test_a_refused_tag_is_stale_only_where_that_is_wanted(
    plain: ScriptedRegistry, directory: Path, image: Image, status: int, allowed: bool
) -> None:
    async with cached(
        [plain.url], directory, cache={**ALWAYS_CHECKED, "staleIfDenied": allowed, "negativeAge": "1h"}
    ) as node:
        await node.get(manifest())
        plain.script(on(), Reply(status))
        for _ in range(3):
            got = await node.get(manifest())
            assert is_stale(got, image) if allowed else got.status == (404 if status == 404 else 403)


async def test_nothing_is_stale_beyond_its_time(plain: ScriptedRegistry, directory: Path) -> None:
    async with cached([plain.url], directory, cache={**ALWAYS_CHECKED, "staleIfError": "0s"}) as node:
        await node.get(manifest())
        plain.script(on(), Reply(500))
        assert (await node.get(manifest())).status == 503


async def test_not_found_is_remembered_for_its_time(plain: ScriptedRegistry, directory: Path) -> None:
    missing = f"sha256:{'0' * 64}"
    async with cached([plain.url], directory, cache={"negativeAge": "1h"}) as node:
        for target in (manifest("none"), manifest(missing)):
            for _ in range(3):
                got = await node.get(target)
                assert (got.status, got.code) == (404, "MANIFEST_UNKNOWN")
    assert requests(plain) == ["HEAD", "GET"]
    async with cached([plain.url], directory, cache=ALWAYS_CHECKED) as node:
        assert (await node.get(manifest("none"))).status == 404
        plain.add(make_image(UPSTREAM, "none"))
        assert (await node.get(manifest("none"))).status == 200


async def test_a_narrow_client_decides_nothing_for_others(node: NodeClient, plain: ScriptedRegistry) -> None:
    narrow = ("Accept", "application/vnd.docker.distribution.manifest.v2+json")
    for _ in range(2):
        got = await node.get(manifest(), narrow)
        assert (got.status, way(got)) == (200, "bypass")
        assert plain.record.of("manifest")[-1].headers["accept"] == narrow[1]
    assert way(await node.get(manifest())) in {"hit", "miss"}
    accepts = {entry.headers["accept"] for entry in plain.record.of("manifest")}
    assert len(accepts) == 2
    assert way(await node.get(manifest())) == "hit"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_narrow_client_does_not_get_what_a_wide_one_has_left_in_memory(
    node: NodeClient, plain: ScriptedRegistry, method: str
) -> None:
    narrow = ("Accept", "application/vnd.docker.distribution.manifest.v2+json")
    for expected in ("miss", "hit"):
        assert way(await node.get(manifest())) == expected
    got = await node.send(method, manifest(), narrow)
    assert (got.status, way(got)) == (200, "bypass")
    last = plain.record.of("manifest")[-1]
    assert (last.method, last.headers["accept"]) == (method, narrow[1])


async def test_with_the_origin_down_what_is_known_pulls_and_the_rest_fails_fast(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    layer, _ = layer_of(image)
    async with cached([plain.url], directory) as node:
        for target in (manifest(), *map(blob, image.blobs)):
            await node.get(target)
    await plain.__aexit__(None, None, None)
    async with cached([plain.url], directory, cache={"tagAge": "0s"}) as node:
        assert is_stale(await node.get(manifest()), image)
        assert way(await node.get(manifest(image.digest))) == "hit"
        assert way(await node.get(blob(layer))) == "hit"
        assert (await node.head(blob(layer))).status == 200
        for target in (manifest("other"), manifest(f"sha256:{'1' * 64}"), blob(f"sha256:{'2' * 64}")):
            got = await node.get(target)
            assert (got.status, got.code) == (503, "UNAVAILABLE")
            assert plain.url.removeprefix("http://") in got.reason


async def test_a_second_cold_node_costs_one_head_and_no_token(directory: Path, image: Image) -> None:
    async with ScriptedRegistry([image], Rules()) as registry:
        targets = (manifest(), manifest(image.digest), *map(blob, image.blobs))
        async with cached([registry.url], directory, cache={"tagAge": "0s"}) as node:
            assert {(await node.get(target)).status for target in targets} == {200}
            before, tokens = len(registry.record.all()), len(registry.record.tokens)
            assert {(await node.get(target)).status for target in targets} == {200}
        [again] = registry.record.all()[before:]
        assert (again.method, again.kind) == ("HEAD", "manifest")
        assert len(registry.record.tokens) == tokens == 1


async def test_a_tag_whose_head_names_a_digest_that_is_not_served_is_passed_through(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    plain.script(on("HEAD", "manifest"), Reply(200, headers=_wrong_head(image)))
    async with cached([plain.url], directory) as node:
        got = await node.get(manifest())
    assert (got.status, got.body, way(got)) == (200, image.manifest, "bypass")


def _wrong_head(image: Image) -> Mapping[str, str]:
    return {
        "Docker-Content-Digest": f"sha256:{'3' * 64}",
        "Content-Type": image.media_type,
        "Content-Length": str(len(image.manifest)),
    }
