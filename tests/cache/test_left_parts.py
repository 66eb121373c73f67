"""What a writer that was killed has left of a blob: all of it is stored as it is, what is of no use is fetched anew."""

from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.layout import Layout
from tests.cache.serving import cached, stored_file, unfinished, way, whole
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Reply
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(6 * MIB + 3, seed=251)
SMALL = Generated(100_003, seed=252)


def leave(directory: Path, digest: str, content: bytes) -> None:
    Layout(directory).part(Digest.parse(digest)).write_bytes(content)


@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "small"])
async def test_a_part_that_is_complete_is_not_fetched_again(
    plain: ScriptedRegistry, directory: Path, content: Generated
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    async with cached([plain.url], directory) as node:
        leave(directory, digest, whole(content))
        got = await node.get(blob(digest), keep_body=False)
        assert (got.status, got.whole, got.sha256) == (200, True, digest)
        assert way(await node.get(blob(digest), keep_body=False)) == "hit"
    assert [entry.method for entry in plain.record.of("blob")] == ["HEAD"]  # does the repository have it?
    assert stored_file(directory, digest).read_bytes() == whole(content)
    assert not unfinished(directory)


async def test_it_gives_nobody_what_the_registry_does_not(plain: ScriptedRegistry, directory: Path) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(on(kind="blob"), Reply(404))
    async with cached([plain.url], directory) as node:
        leave(directory, digest, whole(LARGE))
        for _ in range(2):
            assert (await node.get(blob(digest))).status == 404


@pytest.mark.parametrize("content", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("left", ["wrong", "too long"])
async def test_a_part_that_is_not_the_blob_is_fetched_anew(
    plain: ScriptedRegistry, directory: Path, content: Generated, left: str
) -> None:
    digest = plain.add_blob(UPSTREAM, content).digest
    async with cached([plain.url], directory) as node:
        leave(directory, digest, bytes(content.size) if left == "wrong" else whole(content) + b"more")
        got = await node.get(blob(digest), keep_body=False)
        assert (got.status, got.whole, got.sha256) == (200, True, digest)
    ranges = [entry.headers.get("range") for entry in plain.record.of("blob", "GET")]
    assert ranges == [f"bytes={content.size + (0 if left == 'wrong' else 4)}-", None]
