"""What one repository has brought into the cache is served for another only if that one holds it too."""

import asyncio
from pathlib import Path

import pytest

from proxy.testbed.images import Image, make_image
from tests.cache.serving import BLOB, cached, eventually, reading, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Reply
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, UPSTREAM, blob, layer_of, manifest, metric, settings, started
from tests.fakes.registry import ScriptedRegistry

OTHER_NAME, OTHER = "library/other", "team/other"
LARGE = Generated(6 * MIB, seed=71)
SMALL = Generated(100_001, seed=72)


@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_blob_of_another_repository_is_confirmed_by_one_head(
    plain: ScriptedRegistry, directory: Path, content: Generated, method: str
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    async with cached([plain.url], directory) as node:
        await node.get(blob(digest), keep_body=False)
        refused = await node.send(method, blob(digest, OTHER_NAME))
        assert refused.status == 404
        plain.add_blob(OTHER, content)
        for _ in range(2):
            assert (await node.send(method, blob(digest, OTHER_NAME))).status == 200
    methods = [entry.method for entry in plain.record.of("blob", repository=OTHER)]
    assert methods == ["HEAD", "HEAD"]
    assert len(plain.record.of("blob", "GET")) == 1


async def test_a_blob_that_a_manifest_of_the_repository_names_needs_no_question(
    plain: ScriptedRegistry, directory: Path
) -> None:
    other = make_image(OTHER, "1")
    digest = layer_of(other)[0]
    plain.add(other)
    plain.library.repository(UPSTREAM).blobs.update(plain.library.repositories[OTHER].blobs)
    async with cached([plain.url], directory) as node:
        await node.get(blob(digest))
        await node.get(manifest(name=OTHER_NAME))
        assert way(await node.get(blob(digest, OTHER_NAME))) == "hit"
    assert not plain.record.of("blob", repository=OTHER)


async def test_a_manifest_of_another_repository_is_requested_from_that_one(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    plain.library.repository(OTHER)
    async with cached([plain.url], directory) as node:
        await node.get(manifest(image.digest))
        assert (await node.get(manifest(image.digest, OTHER_NAME))).status == 404
        assert (await node.get(manifest("1", OTHER_NAME))).status == 404


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_who_joins_the_download_of_a_repository_that_is_refused_asks_for_itself(
    plain: ScriptedRegistry, directory: Path, status: int
) -> None:
    digest = plain.add_blob(OTHER, LARGE).digest
    until, reached = asyncio.Event(), asyncio.Event()
    plain.script(on("GET", "blob", repository=UPSTREAM), Reply(status), Stall(BEFORE_HEADERS, until, reached))
    async with cached([plain.url], directory, timeouts={"blob": "10s"}) as node, asyncio.TaskGroup() as tasks:
        refused = tasks.create_task(node.get(blob(digest)))
        await reached.wait()
        joined = tasks.create_task(node.get(blob(digest, OTHER_NAME), keep_body=False))
        await eventually(lambda: metric("scope_proxy_http_requests_in_flight", route="blob") == 2)
        until.set()
    assert refused.result().status in {403, 404, 503}
    assert (joined.result().status, joined.result().sha256) == (200, digest)


async def test_a_download_that_breaks_for_one_repository_goes_on_for_another(
    plain: ScriptedRegistry, directory: Path
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.add_blob(OTHER, LARGE)
    until = asyncio.Event()
    plain.script(on("GET", "blob", repository=UPSTREAM).nth(1), Stall(2 * MIB, until), Cut(2 * MIB))
    plain.script(on("GET", "blob", repository=UPSTREAM), Reply(403))
    async with cached([plain.url], directory) as node, reading(node, blob(digest), MIB):
        joined = reading(node, blob(digest, OTHER_NAME), MIB)
        async with joined as (beginning, reader, _):
            until.set()
            assert beginning + await reader.readexactly(LARGE.size - MIB) == whole(LARGE)


@pytest.mark.slow
async def test_the_trouble_of_one_registry_holds_up_no_other(
    plain: ScriptedRegistry, second: ScriptedRegistry, directory: Path, never: Stall
) -> None:
    """Both have the same blob, and the first one does not answer."""
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    second.add_blob(UPSTREAM, LARGE)
    plain.script(BLOB, never)
    configuration = settings(
        [plain.url], timeouts={"blob": "10s"}, cache={"path": str(directory), "reserveFree": "1Mi"}
    )
    configuration["registries"]["other.example"] = {**configuration["registries"][REG], "endpoints": [second.url]}
    async with started(configuration) as proxy, asyncio.TaskGroup() as tasks:
        hanging = tasks.create_task(proxy.node.get(blob(digest)))
        await plain.record.wait(1, "blob")
        got = await proxy.node.get(blob(digest, registry="other.example"), keep_body=False)
        assert (got.status, got.sha256) == (200, digest)
    assert hanging.result().status == 504


async def test_tags_of_two_registries_and_of_two_rules_are_kept_apart(
    plain: ScriptedRegistry, second: ScriptedRegistry, directory: Path, image: Image
) -> None:
    other = make_image(UPSTREAM, "1", extra={"annotations": {"of": "the other"}})
    renamed = make_image(OTHER, "1", extra={"annotations": {"of": "another name"}})
    second.add(other)
    plain.add(renamed)
    section = {"path": str(directory), "reserveFree": "1Mi", "tagAge": "1h"}
    configuration = settings([plain.url], cache=section)
    configuration["registries"]["other.example"] = {**configuration["registries"][REG], "endpoints": [second.url]}
    async with started(configuration) as proxy:
        assert (await proxy.node.get(manifest())).body == image.manifest
        assert (await proxy.node.get(manifest(registry="other.example"))).body == other.manifest
        assert (await proxy.node.get(manifest(other.digest))).status == 404
    configuration["registries"][REG]["rewrites"] = [{"pattern": f"^{NAME}$", "replacement": OTHER}]
    async with started(configuration) as proxy:
        got = await proxy.node.get(manifest())
        assert (got.body, way(got)) == (renamed.manifest, "miss")
        assert (await proxy.node.get(manifest(image.digest))).status == 404
