"""Answers that are too large, too long or packed: none is taken whole, inflated or waited for."""

import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from proxy.testbed.images import OCI_MANIFEST, Image
from proxy.testbed.record import Kind
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import Body, Change, DropHeader, Gzip, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Raw
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

INFLATED = 128 * MIB
MEMORY_LIMIT = 64 * MIB
"""Far less than anything here would take if it were taken."""
TOO_LARGE = Generated(64 * MIB)
KINDS = {
    "manifest": manifest(),
    "tags": f"/v2/{NAME}/tags/list?ns={REG}",
    "referrers": f"/v2/{NAME}/referrers/sha256:{'a' * 64}?ns={REG}",
}


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A gzip file of some 128 KiB that holds 128 MiB: a JSON document, as far as anybody reads."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packer.compress(b'{"token": "' + b"x" * 100)]
    pieces += [packer.compress(b"x" * MIB) for _ in range(INFLATED // MIB)]
    return b"".join([*pieces, packer.flush()])


@pytest.fixture
def memory() -> Iterator[None]:
    """At no time was more memory taken than the limit."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY_LIMIT


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity"])
@pytest.mark.parametrize("kind", ["token", "manifest", "blob"])
async def test_nothing_is_inflated(
    local: NodeClient, registry: ScriptedRegistry, image: Image, bomb: bytes, kind: str, encoding: str
) -> None:
    registry.script(
        on("GET", "token" if kind == "token" else None).where(lambda call: (call.kind == "token") == (kind == "token")),
        Reply(200, bomb, headers={"Content-Encoding": encoding}, content_type=OCI_MANIFEST),
    )
    got = await local.get(blob(layer_of(image)[0]) if kind == "blob" else manifest())
    assert got.status in {403, 502, 503}


@pytest.mark.parametrize("kind", ["token", "manifest", "blob", "tags"])
async def test_an_answer_that_would_be_good_if_it_were_inflated_is_none(
    local: NodeClient, registry: ScriptedRegistry, image: Image, kind: Kind
) -> None:
    registry.script(on("GET", kind).where(lambda call: bool(call.header("Authorization"))), Gzip())
    got = await local.get({"blob": blob(layer_of(image)[0]), "tags": KINDS["tags"]}.get(kind, manifest()))
    assert got.status in {502, 503}


@pytest.mark.parametrize("kind", ["token", "manifest"])
async def test_nobody_is_invited_to_pack(local: NodeClient, registry: ScriptedRegistry, kind: str) -> None:
    await local.get(manifest(), ("Accept-Encoding", "gzip, br, zstd"))
    requests = registry.record.tokens if kind == "token" else registry.record.of("manifest")
    assert {entry.headers["accept-encoding"] for entry in requests} == {"identity"}


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("framed", [True, False], ids=["length", "chunks"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_body_beyond_its_limit_is_not_read_to_its_end(
    near_plain: NodeClient, plain: ScriptedRegistry, kind: str, framed: bool
) -> None:
    changes: list[Change] = [Reply(200, b"{}", content_type=OCI_MANIFEST), Body(TOO_LARGE)]
    plain.script(on("GET"), *changes, *([] if framed else [DropHeader("Content-Length")]))
    got = await near_plain.get(KINDS[kind])
    assert got.status == 502
    assert b"too large" in got.body or b"more than" in got.body or b"at most" in got.body


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_an_error_is_read_as_far_as_anybody_needs_it(
    near_plain: NodeClient, plain: ScriptedRegistry, status: int
) -> None:
    plain.script(on(), Reply(status), Body(TOO_LARGE))
    got = await near_plain.get(manifest())
    assert got.status in {403, 404, 503}
    assert got.size < 4096


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    "document",
    [{"token": "x" * 65536}, {"token": "x", "pad": "y" * 65536}, {"token": "x\r\ny"}, {"token": "x y"}, {"token": 5}],
    ids=["long", "padded", "lines", "space", "number"],
)
async def test_a_token_is_small_and_one_word(
    local: NodeClient, registry: ScriptedRegistry, document: dict[str, object]
) -> None:
    registry.script(on(kind="token"), Reply(200, document=document))
    got = await local.get(manifest())
    assert (got.status, got.code) == (503, "UNAVAILABLE")
    assert all(not entry.credential.startswith("bearer") for entry in registry.record.of("manifest"))


@pytest.mark.usefixtures("memory")
async def test_a_token_server_that_never_ends_is_left(local: NodeClient, registry: ScriptedRegistry) -> None:
    registry.script(on(kind="token"), Reply(200, b"{}"), Body(TOO_LARGE))
    assert (await local.get(manifest())).status == 503


HEADS = {
    "lines": b"".join(b"X-%d: y\r\n" % number for number in range(100_000)),
    "value": b"X-Long: " + b"y" * 1_000_000 + b"\r\n",
    "name": b"X" * 1_000_000 + b": y\r\n",
    "same": b"Link: <x>; rel=next\r\n" * 10_000,
    "digest": b"Docker-Content-Digest: " + b"a" * 9000 + b"\r\n",
    "reason": b"",
}


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("what", HEADS)
async def test_a_head_beyond_its_limit_is_no_answer(
    near_plain: NodeClient, plain: ScriptedRegistry, image: Image, what: str
) -> None:
    reason = b"O" * 100_000 if what == "reason" else b"OK"
    head = b"HTTP/1.1 200 " + reason + b"\r\n" + HEADS[what]
    plain.script(on(), Raw((head + b"Content-Length: %d\r\n\r\n" % len(image.manifest) + image.manifest,)))
    got = await near_plain.get(manifest())
    assert got.status in {502, 503}
    assert len(got.lines) < 15


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    "document",
    [
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b'{"schemaVersion": 2, "manifests": [' + b"{}," * 50_000 + b"{}]}",
        b'{"schemaVersion": ' + b"9" * 1_000_000 + b"}",
        b'{"schemaVersion": 1e999999999}',
        b'{"schemaVersion": 2, "config": {"digest": "sha256:' + b"a" * 1_000_000 + b'"}, "layers": []}',
    ],
    ids=["deep list", "deep object", "many", "number", "exponent", "digest"],
)
async def test_json_that_is_made_to_hurt(near_plain: NodeClient, plain: ScriptedRegistry, document: bytes) -> None:
    plain.script(on(), Reply(200, document, content_type=OCI_MANIFEST))
    for target in KINDS.values():
        assert (await near_plain.get(target)).status in {200, 502, 503}
