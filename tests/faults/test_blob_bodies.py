"""Blobs whose bytes are wrong, too short, too long or cut: no wrong byte is ever part of a complete answer."""

from typing import Any

import pytest

from proxy.testbed.images import Image
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Body, DropHeader, FlipByte, Gzip, IgnoreRange, Reply, SetHeader, ShiftRange
from tests.fakes.client import Got, NodeClient
from tests.fakes.interrupts import AT_END, BEFORE_HEADERS, Cut, Extra, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, layer_of, metric
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.scripted import Fault

LARGE = Generated(5 * MIB + 11, seed=7)
BLOB = on("GET", "blob")


def incomplete(got: Got) -> bool:
    """Whether a node sees that the answer is not the blob: cut, or an error."""
    return not got.whole or got.status >= 400


@pytest.mark.parametrize("where", ["first", "middle", "last"])
async def test_a_small_blob_with_a_wrong_byte_is_502(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, where: Any
) -> None:
    digest, data = layer_of(image)
    entry = plain.script(BLOB.nth(1), FlipByte(where))
    got = await near_plain.get(blob(digest))
    assert (got.status, got.code, entry.fired) == (502, "DIGEST_INVALID", 1)
    assert (await near_plain.get(blob(digest))).body == data


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("has_length", [True, False], ids=["length", "chunked"])
async def test_a_large_blob_with_a_wrong_byte_is_cut_before_its_end(
    near_plain: NodeClient, plain: ScriptedRegistry, where: Any, has_length: bool
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    faults: list[Fault] = [FlipByte(where), *([] if has_length else [DropHeader("Content-Length")])]
    plain.script(BLOB, *faults)
    before = metric("scope_proxy_http_aborted_total", reason="digest_mismatch")
    got = await near_plain.get(blob(digest))
    assert (got.status, got.whole) == (200, False)
    assert got.size < LARGE.size
    assert metric("scope_proxy_http_aborted_total", reason="digest_mismatch") == before + 1


async def test_after_wrong_bytes_no_tail_is_served(near_plain: NodeClient, plain: ScriptedRegistry) -> None:
    """containerd asks for the rest of what was cut, and would join it to its bad beginning."""
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.nth(1), FlipByte("first"))
    broken = await near_plain.get(blob(digest))
    got = await near_plain.get(blob(digest), ("Range", f"bytes={broken.size}-"))
    assert (got.status, got.header("Retry-After"), "corrupt content" in got.reason) == (503, "60", True)
    assert (await near_plain.get(blob(digest), ("Range", "bytes=-5"))).status == 503
    assert (await near_plain.get(blob(digest), ("Range", "bytes=0-"))).status == 206
    # Another client has all of it right, which does not mend what the first one holds.
    assert (await near_plain.get(blob(digest))).sha256 == digest
    assert (await near_plain.get(blob(digest), ("Range", "bytes=9-"))).status == 503


@pytest.mark.short_budgets
@pytest.mark.parametrize("has_length", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize("range_headers", [(), (("Range", "bytes=5-"),)], ids=["whole", "range"])
async def test_a_layer_is_streamed_as_soon_as_it_can_be_no_manifest(
    near_plain: NodeClient, plain: ScriptedRegistry, never: Stall, range_headers: Any, has_length: bool
) -> None:
    """Three MiB over a slow line: the node has its headers within the budget, and every byte in the end."""
    content = Generated(3 * MIB, seed=21)
    digest = plain.add_blob(UPSTREAM, content).digest
    faults: list[Fault] = [Stall(2 * MIB, never.until), *([] if has_length else [DropHeader("Content-Length")])]
    plain.script(BLOB.nth(2 if range_headers else 1), *faults)
    got = await near_plain.get(blob(digest), *range_headers)
    assert got.whole
    if range_headers and has_length:
        assert (got.status, got.body) == (206, b"".join(content.pieces(5, content.size)))
    else:
        assert (got.status, got.sha256) == (200, digest)
    assert plain.record.of("blob")[-1].headers["range"].startswith(f"bytes={2 * MIB}-")
    assert (await near_plain.head(blob(digest))).header("Content-Length") == str(content.size)


async def test_a_wrong_digest_header_on_a_blob_is_put_right(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    digest, data = layer_of(image)
    plain.script(on(kind="blob"), SetHeader("Docker-Content-Digest", f"sha256:{'0' * 64}"))
    for got in (await near_plain.head(blob(digest)), await near_plain.get(blob(digest))):
        assert got.header("Docker-Content-Digest") == digest
    assert got.body == data


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (Cut(BEFORE_HEADERS), 2),
        (Cut(0), 2),
        (Cut(3 * MIB), 2),
        (Cut(3 * MIB, reset=True), 2),
        (Cut(LARGE.size - 1), 2),
        (Extra(b"more than was told"), None),  # whether the surplus is seen with the body is a matter of timing
    ],
    ids=str,
)
@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_body_that_is_cut_once_arrives_whole(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, size: str, fault: Any, requests: int | None
) -> None:
    digest, data = layer_of(image) if size == "small" else (plain.add_blob(UPSTREAM, LARGE).digest, b"")
    if data and isinstance(fault, Cut) and fault.after > 0:
        fault = Cut(len(data) // 2, reset=fault.reset)
    plain.script(BLOB.nth(1), fault)
    got = await near_plain.get(blob(digest))
    assert (got.status, got.whole, got.sha256) == (200, True, digest)
    assert requests in {None, len(plain.record.of("blob"))}


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("after", [MIB, AT_END])
async def test_a_chunked_body_that_is_cut_once_arrives_whole(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, size: str, after: int
) -> None:
    digest = layer_of(image)[0] if size == "small" else plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.nth(1), DropHeader("Content-Length"), Cut(after))
    got = await near_plain.get(blob(digest))
    if size == "large" and after == AT_END:  # all bytes were there, but nobody said so: the rest is requested, 416
        assert got.whole is False
    else:
        assert (got.status, got.whole, got.sha256) == (200, True, digest)


async def test_a_body_without_length_is_passed_in_chunks(near_plain: NodeClient, plain: ScriptedRegistry) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB, DropHeader("Content-Length"))
    got = await near_plain.get(blob(digest))
    assert (got.header("Transfer-Encoding"), got.whole, got.sha256) == ("chunked", True, digest)


async def test_a_body_that_ends_with_the_connection_too_early_is_not_complete(
    near_plain: NodeClient, plain: ScriptedRegistry
) -> None:
    """Without a length and without chunks the end of the connection is the end: only the digest tells."""
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB, DropHeader("Content-Length"), SetHeader("Connection", "close"), Cut(5 * MIB))
    got = await near_plain.get(blob(digest))
    assert (got.status, got.whole) == (200, False)


@pytest.mark.parametrize("size", ["small", "large"])
async def test_head_without_a_length_is_answered_all_the_same(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, size: str
) -> None:
    digest = layer_of(image)[0] if size == "small" else plain.add_blob(UPSTREAM, LARGE).digest
    content = plain.library.repositories[UPSTREAM].blobs[digest]
    plain.script(on("HEAD", "blob"), DropHeader("Content-Length"))
    got = await near_plain.head(blob(digest))
    assert (got.status, got.header("Content-Length")) == (200, str(content.size))


@pytest.mark.parametrize("status", [405, 501])
@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_registry_that_knows_no_head(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, size: str, status: int
) -> None:
    digest = layer_of(image)[0] if size == "small" else plain.add_blob(UPSTREAM, LARGE).digest
    content = plain.library.repositories[UPSTREAM].blobs[digest]
    plain.script(on("HEAD", "blob"), Reply(status))
    got = await near_plain.head(blob(digest))
    assert (got.status, got.header("Content-Length")) == (200, str(content.size))
    assert plain.record.of("blob")[1].headers["range"] == "bytes=0-0"


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("range_headers", [(), (("Range", "bytes=5-"),)])
async def test_a_compressed_body_is_502(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, size: str, range_headers: Any
) -> None:
    digest = layer_of(image)[0] if size == "small" else plain.add_blob(UPSTREAM, Generated(5 * MIB)).digest
    plain.script(BLOB, Gzip())
    got = await near_plain.get(blob(digest), *range_headers)
    assert (got.status, "Content-Encoding gzip" in got.reason) == (502, True)


@pytest.mark.parametrize("size", ["small", "large"])
async def test_another_body_under_the_digest_is_never_complete(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, size: str
) -> None:
    digest = layer_of(image)[0]
    plain.script(BLOB, Body(b"<html>log in</html>" if size == "small" else LARGE))
    assert incomplete(await near_plain.get(blob(digest)))


@pytest.mark.parametrize("lie", [False, True])
async def test_a_range_that_differs_from_the_request(
    near_plain: NodeClient, plain: ScriptedRegistry, lie: bool
) -> None:
    """What the headers admit is refused; a lie cannot be seen in a part, only containerd's own digest tells."""
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB, ShiftRange(lie=lie))
    got = await near_plain.get(blob(digest), ("Range", "bytes=1000-1999"))
    assert got.status == (206 if lie else 502)
    assert lie or got.code == "MANIFEST_INVALID"


@pytest.mark.parametrize(
    "content_range", ["", "bytes 10-19", "bytes 10-19/*", "bytes 19-10/100", "bytes 0-9/5", "pages 1-2/3"]
)
async def test_a_part_that_does_not_say_which_is_502(
    near_plain: NodeClient, plain: ScriptedRegistry, content_range: str
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB, SetHeader("Content-Range", content_range))
    assert (await near_plain.get(blob(digest), ("Range", "bytes=10-19"))).status == 502


async def test_a_resumed_body_that_comes_whole_again_is_cut_to_what_is_missing(
    near_plain: NodeClient, plain: ScriptedRegistry
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.nth(1), Cut(3 * MIB))
    plain.script(BLOB, IgnoreRange())
    got = await near_plain.get(blob(digest))
    assert (got.whole, got.sha256) == (True, digest)
    assert [entry.status for entry in plain.record.of("blob")] == [200, 200]


@pytest.mark.parametrize("fault", [ShiftRange(), Reply(416), Reply(404), Reply(403), Gzip(), FlipByte("last")], ids=str)
async def test_a_body_that_cannot_be_continued_is_cut(
    near_plain: NodeClient, plain: ScriptedRegistry, fault: Any
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(BLOB.nth(1), Cut(3 * MIB))
    plain.script(BLOB, fault)
    got = await near_plain.get(blob(digest))
    assert (got.status, got.whole) == (200, False)
    assert 0 < got.size < LARGE.size
