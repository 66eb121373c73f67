"""Redirects to object stores and other places, followed by the proxy."""

import itertools

import pytest

from proxy.testbed.answer import Bytes
from proxy.testbed.images import Image
from proxy.testbed.record import Call
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Redirect, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Cut, Raw
from tests.fakes.matching import on
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import UPSTREAM, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry

LARGE = Generated(5 * MIB, seed=5)
ALLOWED = on(kind="blob").with_header("Authorization")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_blob_on_another_port_gets_no_authorization(
    node: NodeClient, registry: ScriptedRegistry, store: ObjectStore, image: Image, status: int, size: str
) -> None:
    digest = layer_of(image)[0] if size == "small" else registry.add_blob(UPSTREAM, LARGE).digest
    registry.script(ALLOWED, Redirect(store.signer(registry.library), status))
    got = await node.get(blob(digest))
    assert (got.status, got.sha256) == (200, digest)
    assert got.header("Location") is None
    (entry,) = store.record.all()
    assert entry.credential == "anonymous"
    assert entry.headers.keys() <= {"host", "user-agent", "accept", "accept-encoding"}


@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_range_goes_along(
    node: NodeClient, registry: ScriptedRegistry, store: ObjectStore, image: Image, size: str
) -> None:
    digest = layer_of(image)[0] if size == "small" else registry.add_blob(UPSTREAM, LARGE).digest
    registry.script(ALLOWED, Redirect(store.signer(registry.library)))
    got = await node.get(blob(digest), ("Range", "bytes=10-19"))
    content = registry.library.repositories[UPSTREAM].blobs[digest]
    assert (got.status, got.body) == (206, b"".join(content.pieces(10, 20)))
    assert store.record.all()[0].headers["range"] == "bytes=10-19"


@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_head_that_the_store_refuses_becomes_a_get_of_one_byte(
    node: NodeClient, registry: ScriptedRegistry, store: ObjectStore, image: Image, size: str
) -> None:
    digest = layer_of(image)[0] if size == "small" else registry.add_blob(UPSTREAM, LARGE).digest
    registry.script(ALLOWED, Redirect(store.signer(registry.library)))
    got = await node.head(blob(digest))
    content = registry.library.repositories[UPSTREAM].blobs[digest]
    assert (got.status, got.header("Content-Length")) == (200, str(content.size))
    requests = [(entry.method, entry.headers.get("range"), entry.status) for entry in store.record.all()]
    assert requests[:2] == [("HEAD", None, 403), ("GET", "bytes=0-0", 206)]
    assert len(requests) == (3 if size == "small" else 2)  # a small one is looked at whole


@pytest.mark.parametrize("status", [400, 401, 405, 501])
async def test_whatever_the_store_answers_to_head(
    node: NodeClient, registry: ScriptedRegistry, store: ObjectStore, status: int
) -> None:
    digest = registry.add_blob(UPSTREAM, LARGE).digest
    registry.script(ALLOWED, Redirect(store.signer(registry.library)))
    store.script(on("HEAD"), Reply(status))
    got = await node.head(blob(digest))
    assert (got.status, got.header("Content-Length")) == (200, str(LARGE.size))
    assert len(registry.record.tokens) == 1  # a refusal elsewhere is no word on our token


async def test_an_expired_address_is_requested_again(
    near_plain: NodeClient, plain: ScriptedRegistry, store: ObjectStore, image: Image
) -> None:
    digest, data = layer_of(image)
    stale = store.sign(Bytes(data))
    store.expire_all()
    plain.script(on(kind="blob").nth(1), Redirect(stale))
    plain.script(on(kind="blob"), Redirect(store.signer(plain.library)))
    assert (await near_plain.get(blob(digest))).body == data
    assert [entry.status for entry in store.record.all()] == [403, 200]


async def test_a_body_that_breaks_in_the_store_goes_on_with_a_fresh_address(
    near_plain: NodeClient, plain: ScriptedRegistry, store: ObjectStore
) -> None:
    digest = plain.add_blob(UPSTREAM, LARGE).digest
    plain.script(on(kind="blob"), Redirect(store.signer(plain.library)))
    store.script(on().nth(1), Cut(2 * MIB))
    got = await near_plain.get(blob(digest))
    assert (got.whole, got.sha256) == (True, digest)
    assert [entry.status for entry in store.record.all()] == [200, 206]
    assert len(plain.record.of("blob")) == 2


async def test_a_store_that_refuses_for_good_is_503(
    near_plain: NodeClient, plain: ScriptedRegistry, store: ObjectStore, image: Image
) -> None:
    plain.script(on(kind="blob"), Redirect(store.signer(plain.library)))
    store.script(on(), Reply(403))
    got = await near_plain.get(blob(layer_of(image)[0]))
    assert (got.status, got.code) == (503, "UNAVAILABLE")
    assert "object store" in got.reason
    assert len(store.record.all()) == 3


async def test_a_store_that_does_not_have_it_is_404(
    near_plain: NodeClient, plain: ScriptedRegistry, store: ObjectStore, image: Image
) -> None:
    plain.script(on(kind="blob"), Redirect(store.signer(plain.library)))
    store.script(on(), Reply(404))
    assert (await near_plain.get(blob(layer_of(image)[0]))).status == 404


def hops(count: int) -> Redirect:
    """So many redirects to the same place with a counter, then on it goes."""
    numbers = itertools.count(1)

    def to(call: Call) -> str:
        return f"{call.path}?hop={next(numbers)}"

    assert count > 0
    return Redirect(to)


@pytest.mark.parametrize(("count", "status"), [(1, 200), (5, 200), (6, 403), (50, 403)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_at_most_five_hops(
    near_plain: NodeClient, plain: ScriptedRegistry, method: str, count: int, status: int
) -> None:
    plain.script(on(kind="manifest").times(count), hops(count))
    got = await near_plain.send(method, manifest())
    assert got.status == status
    assert status == 200 or "redirects more than 5 times" in got.reason
    assert len(plain.record.of("manifest")) == min(count + 1, 6)


@pytest.mark.parametrize(
    "location", ["./2", "/v2/team/app/manifests/2", "../manifests/2", "//{host}/v2/team/app/manifests/2", "2?x=1#part"]
)
async def test_relative_locations(node: NodeClient, registry: ScriptedRegistry, image: Image, location: str) -> None:
    registry.library.repositories[UPSTREAM].tags["2"] = image.digest
    host = registry.url.removeprefix("http://")
    redirect = Redirect(location.replace("{host}", host))
    registry.script(on(kind="manifest", reference="1").with_header("Authorization"), redirect)
    assert (await node.get(manifest())).body == image.manifest
    assert registry.record.of("manifest", reference="2")[0].credential == "bearer 1"  # the very origin keeps it


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://0.0.0.0:1/",
        "http://224.0.0.1/",
        "ftp://127.0.0.1/blob",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/blob",
        "http://",
        "",
        "http://127.0.0.1/ a",
        "http://127.0.0.1:99999/",
        f"http://{'a' * 64}.example/",
        "http://a..example/",
        "http://127.0.0.1/" + "a" * 9000,
    ],
)
async def test_places_where_nobody_should_go(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, location: str
) -> None:
    plain.script(on(kind="blob"), Redirect(location))
    got = await near_plain.get(blob(layer_of(image)[0]))
    assert got.status in ({403} if len(location) < 9000 else {403, 503})
    assert "pw@" not in got.reason


async def test_a_location_with_a_line_break_makes_no_header_of_ours(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image
) -> None:
    raw = b"HTTP/1.1 307 Away\r\nLocation: /x\r\n y\rX-Evil: 1\r\nContent-Length: 0\r\n\r\n"
    plain.script(on(kind="blob"), Raw((raw,)))
    got = await near_plain.get(blob(layer_of(image)[0]))
    assert got.status in {403, 404, 503}
    assert got.header("X-Evil") is None
