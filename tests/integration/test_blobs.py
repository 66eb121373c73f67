"""Blobs as a node sees them: whole, in ranges, and their HEAD."""

from dataclasses import dataclass

import pytest

from proxy.testbed.answer import BodyContent
from proxy.testbed.images import Image
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Reply
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import REG, UPSTREAM, blob, layer_of
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.usefixtures("with_and_without_cache")

LARGE = Generated(5 * MIB + 7, seed=3)
"""More than what is held in memory and looked at."""


@dataclass(frozen=True, slots=True)
class Held:
    digest: str
    data: bytes


def whole(content: BodyContent) -> bytes:
    return b"".join(content.pieces(0, content.size))


@pytest.fixture(params=["small", "large"])
def held(request: pytest.FixtureRequest, registry: ScriptedRegistry, image: Image) -> Held:
    """A blob of the registry, smaller than a manifest may be or larger."""
    if request.param == "small":
        return Held(*layer_of(image))
    return Held(registry.add_blob(UPSTREAM, LARGE).digest, whole(LARGE))


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_blob_has_exact_headers(node: NodeClient, held: Held, method: str) -> None:
    got = await node.send(method, blob(held.digest))
    assert (got.status, got.reason) == (200, "OK")
    assert got.header("Content-Length") == str(len(held.data))
    assert got.header("Content-Type") == "application/octet-stream"
    assert got.header("Docker-Content-Digest") == held.digest
    assert got.header("Accept-Ranges") == "bytes"
    assert got.header("OCI-Namespace") == REG
    assert got.whole
    assert got.body == (held.data if method == "GET" else b"")


@pytest.mark.parametrize("ranges_ignored", [False, True], ids=["honoured", "ignored"])
@pytest.mark.parametrize(
    ("range_header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, -1),
        ("bytes=40-59", 40, 59),
        ("bytes=100-", 100, -1),
        ("bytes=-20", -20, -1),
        ("bytes=50-99999999999", 50, -1),
        ("bytes=-99999999999", 0, -1),
    ],
)
async def test_a_range_is_206(
    node: NodeClient,
    registry: ScriptedRegistry,
    held: Held,
    range_header: str,
    first: int,
    last: int,
    ranges_ignored: bool,
) -> None:
    if ranges_ignored:
        registry.script(on("GET", "blob").with_header("Authorization"), Reply(200, held.data))
    size = len(held.data)
    start, end = first % size, last % size
    for _ in range(2):  # first unknown, then known to be a blob
        got = await node.get(blob(held.digest), ("Range", range_header))
        assert (got.status, got.reason) == (206, "Partial Content")
        assert got.header("Content-Range") == f"bytes {start}-{end}/{size}"
        assert got.header("Content-Length") == str(end - start + 1)
        assert got.whole
        assert got.body == held.data[start : end + 1]


@pytest.mark.parametrize("ranges_ignored", [False, True], ids=["honoured", "ignored"])
@pytest.mark.parametrize("beyond", [0, 1, 10**12])
async def test_a_range_beyond_the_end_is_416(
    node: NodeClient, registry: ScriptedRegistry, held: Held, beyond: int, ranges_ignored: bool
) -> None:
    if ranges_ignored:
        registry.script(on("GET", "blob").with_header("Authorization"), Reply(200, held.data))
    size = len(held.data)
    got = await node.get(blob(held.digest), ("Range", f"bytes={size + beyond}-"))
    assert (got.status, got.code) == (416, "RANGE_INVALID")
    assert got.header("Content-Range") == f"bytes */{size}"


@pytest.mark.parametrize("range_header", ["bytes=0-1,5-6", "bytes=9-5", "bytes=", "lines=1-2", "bytes=a-b", "bytes=-"])
async def test_several_ranges_and_malformed_ones_get_the_whole(node: NodeClient, held: Held, range_header: str) -> None:
    got = await node.get(blob(held.digest), ("Range", range_header))
    assert (got.status, got.body) == (200, held.data)
    assert got.header("Content-Range") is None


async def test_if_range_with_another_content_gets_the_whole(node: NodeClient, held: Held) -> None:
    got = await node.get(blob(held.digest), ("Range", "bytes=10-19"), ("If-Range", '"other"'))
    assert (got.status, got.body) == (200, held.data)
    etag = got.header("ETag") or ""
    part = await node.get(blob(held.digest), ("Range", "bytes=10-19"), ("If-Range", etag))
    assert (part.status, part.body) == (206, held.data[10:20])


async def test_head_takes_no_notice_of_a_range(node: NodeClient, held: Held) -> None:
    got = await node.head(blob(held.digest), ("Range", "bytes=10-19"))
    assert (got.status, got.header("Content-Length")) == (200, str(len(held.data)))


async def test_an_empty_blob(node: NodeClient, registry: ScriptedRegistry) -> None:
    digest = registry.add_blob(UPSTREAM, Generated(0)).digest
    assert (await node.head(blob(digest))).header("Content-Length") == "0"
    got = await node.get(blob(digest))
    assert (got.status, got.body, got.header("Content-Length")) == (200, b"", "0")
    part = await node.get(blob(digest), ("Range", "bytes=0-"))
    assert (part.status, part.header("Content-Range")) == (416, "bytes */0")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_blob_that_the_upstream_does_not_have_is_404(node: NodeClient, method: str) -> None:
    got = await node.send(method, blob(f"sha256:{'0' * 64}"))
    assert got.status == 404
    assert method == "HEAD" or got.code == "BLOB_UNKNOWN"
