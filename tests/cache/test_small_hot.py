"""Small blobs that are requested again and again: read at once from their files, and from nowhere else."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.cache.serving import cached, stored_file, way, whole
from tests.cache.test_stored_bytes import DAMAGES
from tests.fakes.blobs import Generated
from tests.fakes.client import NodeClient
from tests.fakes.proxy import UPSTREAM, blob, metric
from tests.fakes.registry import ScriptedRegistry

SIZES = {"empty": 0, "one byte": 1, "some": 4096, "largest small": 64 * 1024, "smallest large": 64 * 1024 + 1}
SOME = Generated(40_001, seed=81)
OTHER_NAME = "library/other"


async def made_hot(node: NodeClient, target: str) -> None:
    for expected in ("miss", "hit", "hit", "hit"):
        assert way(await node.get(target)) == expected


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_all_bytes_come_each_time_whatever_the_size(plain: ScriptedRegistry, node: NodeClient, size: int) -> None:
    content = Generated(size, seed=82)
    digest = plain.add_blob(UPSTREAM, content).digest
    await made_hot(node, blob(digest))
    got, head = await node.get(blob(digest)), await node.send("HEAD", blob(digest))
    assert (got.status, got.whole, got.sha256, got.body) == (200, True, digest, whole(content))
    assert (head.status, head.header("Content-Length")) == (200, str(size))
    assert len(plain.record.of("blob")) == 1


async def test_many_at_once_get_each_their_own(plain: ScriptedRegistry, node: NodeClient) -> None:
    contents = [Generated(3000 + number, seed=number) for number in range(40)]
    digests = [plain.add_blob(UPSTREAM, content).digest for content in contents]
    for digest in digests:
        await made_hot(node, blob(digest))
    found = await asyncio.gather(*(node.get(blob(digest)) for digest in digests * 3))
    assert [got.sha256 for got in found] == digests * 3
    assert [got.body for got in found] == [whole(content) for content in contents] * 3


@pytest.mark.parametrize(
    ("head", "first", "last"), [("bytes=0-0", 0, 0), ("bytes=7-99", 7, 99), ("bytes=-20", 39_981, 40_000)]
)
async def test_a_range_of_a_hot_one_is_exact(
    plain: ScriptedRegistry, node: NodeClient, head: str, first: int, last: int
) -> None:
    digest = plain.add_blob(UPSTREAM, SOME).digest
    await made_hot(node, blob(digest))
    got = await node.get(blob(digest), ("Range", head))
    assert (got.status, got.body) == (206, whole(SOME)[first : last + 1])
    assert got.header("Content-Range") == f"bytes {first}-{last}/{SOME.size}"
    outside = await node.get(blob(digest), ("Range", f"bytes={SOME.size}-"))
    assert (outside.status, outside.header("Content-Range")) == (416, f"bytes */{SOME.size}")


@pytest.mark.parametrize("verify", ["ingest", "firstRead", "always"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "lengthened", "deleted"])
async def test_a_hot_one_that_was_changed_is_fetched_anew(
    plain: ScriptedRegistry, directory: Path, verify: str, damage: str
) -> None:
    digest = plain.add_blob(UPSTREAM, SOME).digest
    async with cached([plain.url], directory, cache={"verify": verify}) as node:
        await made_hot(node, blob(digest))
        DAMAGES[damage](stored_file(directory, digest))
        got = await node.get(blob(digest))
        assert (way(got), got.sha256) == ("miss", digest)
    assert len(plain.record.of("blob", "GET")) == 2


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_hot_one_is_checked_each_time_where_that_is_configured(
    plain: ScriptedRegistry, directory: Path, damage: str
) -> None:
    digest = plain.add_blob(UPSTREAM, SOME).digest
    async with cached([plain.url], directory, cache={"verify": "always"}) as node:
        await made_hot(node, blob(digest))
        DAMAGES[damage](stored_file(directory, digest))
        got = await node.get(blob(digest))
        assert (got.status, got.sha256) == (200, digest)
    assert len(plain.record.of("blob", "GET")) == 2


async def test_with_the_directory_removed_it_is_fetched_anew(
    plain: ScriptedRegistry, node: NodeClient, directory: Path
) -> None:
    digest = plain.add_blob(UPSTREAM, SOME).digest
    await made_hot(node, blob(digest))
    await asyncio.to_thread(shutil.rmtree, stored_file(directory, digest).parent)
    got = await node.get(blob(digest))
    assert (got.status, got.sha256) == (200, digest)
    assert len(plain.record.of("blob", "GET")) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_hot_one_of_another_repository_is_none_of_this_one(
    plain: ScriptedRegistry, node: NodeClient, method: str
) -> None:
    digest = plain.add_blob(UPSTREAM, SOME).digest
    await made_hot(node, blob(digest))
    assert (await node.send(method, blob(digest, OTHER_NAME))).status == 404


async def test_it_is_counted_as_any_other_hit(plain: ScriptedRegistry, node: NodeClient) -> None:
    digest = plain.add_blob(UPSTREAM, SOME).digest
    await made_hot(node, blob(digest))
    hits = metric("scope_proxy_cache_requests_total", kind="blob", result="hit")
    sent = metric("scope_proxy_http_response_bytes_total", route="blob", cache="hit")
    await node.get(blob(digest))
    assert metric("scope_proxy_cache_requests_total", kind="blob", result="hit") == hits + 1
    assert metric("scope_proxy_http_response_bytes_total", route="blob", cache="hit") == sent + SOME.size
