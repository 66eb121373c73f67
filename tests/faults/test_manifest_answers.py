"""Manifests that an upstream answers in odd or wrong ways."""

import json
from typing import Any

import pytest

from proxy.testbed.images import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Image, make_image
from tests.fakes.blobs import MIB, image_with_manifest_of
from tests.fakes.changes import Body, DropHeader, FlipByte, Gzip, Reply, SetHeader
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import AT_END, BEFORE_HEADERS, Cut, Extra, Raw, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, manifest
from tests.fakes.registry import ScriptedRegistry

WRONG = f"sha256:{'0' * 64}"
MANIFEST = on(kind="manifest")


def exact(got: Any, image: Image, method: str) -> None:
    """The node got the right descriptor, and with GET the right bytes."""
    assert got.status == 200
    assert got.header("Content-Length") == str(len(image.manifest))
    assert got.header("Content-Type") == image.media_type
    assert got.header("Docker-Content-Digest") == image.digest
    assert got.body == (image.manifest if method == "GET" else b"")


@pytest.mark.parametrize(
    "fault",
    [
        DropHeader("Docker-Content-Digest"),
        DropHeader("Content-Length"),
        DropHeader("Content-Type"),
        SetHeader("Docker-Content-Digest", "nonsense"),
        SetHeader("Docker-Content-Digest", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        SetHeader("Content-Length", "0"),
        SetHeader("Content-Type", "text/html"),
        SetHeader("Content-Type", "text/plain; charset=utf-8"),
        SetHeader("Content-Type", "application/octet-stream"),
        SetHeader("Content-Type", "application/json"),
        SetHeader("Content-Type", f"{OCI_MANIFEST.upper()}; charset=utf-8"),
    ],
    ids=lambda fault: f"{fault.name}-{getattr(fault, 'value', 'missing')[:30]}",
)
@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_wrong_and_missing_headers_are_put_right(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, method: str, by: str, fault: Any
) -> None:
    if not (method == "GET" and fault == SetHeader("Content-Length", "0")):  # that would be another body
        plain.script(on(kind="manifest"), fault) if fault.name != "Content-Length" else plain.script(
            on("HEAD", "manifest"), fault
        )
    got = await near_plain.send(method, manifest(image.tag if by == "tag" else image.digest))
    exact(got, image, method)
    assert len(plain.record.of("manifest")) <= 2


async def test_a_manifest_in_chunks(near_plain: NodeClient, plain: ScriptedRegistry, image: Image) -> None:
    plain.script(MANIFEST, DropHeader("Content-Length"))
    exact(await near_plain.get(manifest()), image, "GET")
    plain.script(MANIFEST, SetHeader("Connection", "close"))
    exact(await near_plain.get(manifest()), image, "GET")


@pytest.mark.parametrize("status", [405, 501])
@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_an_upstream_without_head(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, status: int, by: str
) -> None:
    plain.script(on("HEAD"), Reply(status))
    exact(await near_plain.head(manifest(image.tag if by == "tag" else image.digest)), image, "HEAD")
    assert [entry.method for entry in plain.record.of("manifest")] == ["HEAD", "GET"]


@pytest.mark.parametrize("sent_type", [DOCKER_MANIFEST, OCI_INDEX])
async def test_the_media_type_in_the_bytes_wins(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, sent_type: str
) -> None:
    plain.script(MANIFEST, SetHeader("Content-Type", sent_type))
    exact(await near_plain.get(manifest()), image, "GET")


async def test_a_manifest_that_does_not_declare_its_type(near_plain: NodeClient, plain: ScriptedRegistry) -> None:
    fields = json.loads(make_image(UPSTREAM, "2").manifest)
    del fields["mediaType"]
    body = json.dumps(fields).encode()
    plain.script(MANIFEST, Body(body), DropHeader("Docker-Content-Digest"), SetHeader("Content-Type", "text/plain"))
    got = await near_plain.head(manifest("1"))
    assert (got.status, got.header("Content-Type")) == (200, OCI_MANIFEST)
    assert got.header("Content-Length") == str(len(body))


NO_MANIFEST = {
    "html": Reply(200, b"<!DOCTYPE html><html>log in</html>", content_type="text/html"),
    "html with a manifest's type": Reply(200, b"<html>", content_type=OCI_MANIFEST),
    "empty": Reply(200, b""),
    "a list": Reply(200, document=[]),
    "other json": Reply(200, document={"hello": "world"}),
    "an error with 200": Reply(200, document={"errors": [{"code": "UNKNOWN"}]}),
    "schema 1": Reply(200, document={"schemaVersion": 1, "fsLayers": []}),
    "image and index": Reply(200, document={"schemaVersion": 2, "manifests": [], "layers": [], "config": {}}),
    "deep": Reply(200, b'{"a":' * 50_000),
    "gzip": Gzip(),
}


@pytest.mark.parametrize("fault", NO_MANIFEST.values(), ids=NO_MANIFEST)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_what_is_no_manifest_is_502(
    near_plain: NodeClient, plain: ScriptedRegistry, method: str, fault: Any
) -> None:
    plain.script(on("HEAD"), Reply(405))
    plain.script(MANIFEST, fault, DropHeader("Docker-Content-Digest"))
    got = await near_plain.send(method, manifest())
    assert got.status == 502
    assert len(plain.record.of("manifest", "GET")) == 1


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_one_wrong_byte_is_502_and_none_is_sent(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, by: str, where: Any
) -> None:
    plain.script(MANIFEST, FlipByte(where))
    got = await near_plain.get(manifest(image.tag if by == "tag" else image.digest))
    assert (got.status, got.code) == (502, "DIGEST_INVALID")
    assert "sent a manifest with digest" in got.reason


@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_right_bytes_under_a_wrong_digest(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, by: str
) -> None:
    """By tag the header cannot be true; by digest the bytes are what was requested, whatever the header says."""
    plain.script(MANIFEST, SetHeader("Docker-Content-Digest", WRONG))
    got = await near_plain.get(manifest(image.tag if by == "tag" else image.digest))
    assert got.status == (502 if by == "tag" else 200)
    assert by == "tag" or got.header("Docker-Content-Digest") == image.digest


async def test_a_head_by_digest_that_tells_another_digest_is_502(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    plain.script(on("HEAD"), SetHeader("Docker-Content-Digest", WRONG))
    got = await near_plain.head(manifest(image.digest))
    assert got.status == 502
    assert got.header("Docker-Content-Digest") is None


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 502)])
@pytest.mark.parametrize("sent_type", [True, False])
async def test_the_largest_manifest(
    near_plain: NodeClient, plain: ScriptedRegistry, extra: int, status: int, sent_type: bool
) -> None:
    plain.add(image_with_manifest_of(UPSTREAM, "huge", 4 * MIB + extra))
    if not sent_type:
        plain.script(MANIFEST, DropHeader("Content-Length"))
    for method in ("HEAD", "GET"):
        got = await near_plain.send(method, manifest("huge"))
        assert got.status == status
        assert status == 502 or got.header("Content-Length") == str(4 * MIB)


@pytest.mark.parametrize("after", [BEFORE_HEADERS, 0, 100, -2])
@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_that_breaks_off_is_requested_again(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, after: int, reset: bool
) -> None:
    place = len(image.manifest) - 1 if after == -2 else after
    plain.script(MANIFEST.nth(1), Cut(place, reset=reset))
    exact(await near_plain.get(manifest()), image, "GET")
    plain.script(MANIFEST, Cut(place, reset=reset))
    got = await near_plain.get(manifest())
    assert (got.status, got.code) == (503, "UNAVAILABLE")


async def test_a_chunked_manifest_cut_before_its_last_chunk_is_not_taken_for_whole(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    plain.script(MANIFEST, DropHeader("Content-Length"), DropHeader("Docker-Content-Digest"), Cut(AT_END))
    got = await near_plain.get(manifest())
    assert got.status == 503
    assert image.manifest not in got.body


@pytest.mark.short_budgets
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_headers_that_never_come_are_504(
    near_plain: NodeClient, plain: ScriptedRegistry, never: Stall, method: str
) -> None:
    plain.script(MANIFEST, never)
    got = await near_plain.send(method, manifest())
    assert got.status == 504
    assert len(plain.record.of("manifest")) == 1


@pytest.mark.short_budgets
async def test_a_body_that_stalls_is_504(near_plain: NodeClient, plain: ScriptedRegistry, never: Stall) -> None:
    plain.script(MANIFEST, Stall(50, never.until))
    got = await near_plain.get(manifest())
    assert (got.status, got.code) == (504, "UNAVAILABLE")


async def test_what_follows_an_answer_is_not_taken_for_the_next_one(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    other = make_image(UPSTREAM, "evil")
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {OCI_MANIFEST}\r\nContent-Length: {len(other.manifest)}\r\n\r\n"
    plain.script(MANIFEST.nth(1), Extra(head.encode() + other.manifest))
    for _ in range(3):
        exact(await near_plain.get(manifest()), image, "GET")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_connection_closed_when_it_is_used_again(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, method: str
) -> None:
    exact(await near_plain.send(method, manifest()), image, method)
    plain.script(MANIFEST.reused().nth(1), Cut(BEFORE_HEADERS))
    exact(await near_plain.send(method, manifest()), image, method)
    assert [entry.status for entry in plain.record.of("manifest")] == [200, 0, 200]


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_what_is_not_http_or_no_answer_is_502_or_503(
    near_plain: NodeClient, plain: ScriptedRegistry, raw: bytes
) -> None:
    plain.script(MANIFEST, Raw((raw,)))
    got = await near_plain.get(manifest())
    assert got.status in {502, 503}
    assert 1 <= len(plain.record.of("manifest")) <= 3


async def test_a_100_before_the_answer(near_plain: NodeClient, plain: ScriptedRegistry, image: Image) -> None:
    head = (
        f"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: {OCI_MANIFEST}\r\n"
        f"Content-Length: {len(image.manifest)}\r\nDocker-Content-Digest: {image.digest}\r\n\r\n"
    )
    plain.script(MANIFEST, Raw((head.encode() + image.manifest,)))
    exact(await near_plain.get(manifest()), image, "GET")
