"""The fake's faults that change an answer, each as a plain client sees it."""

import gzip
from collections.abc import AsyncIterator

import aiohttp
import pytest

from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from tests.fakes.blobs import MIB, Generated, digest_of, image_of_layers, image_with_manifest_of
from tests.fakes.changes import (
    Body,
    Challenge,
    DropHeader,
    FlipByte,
    Gzip,
    IgnoreRange,
    Redirect,
    Reply,
    SetHeader,
    ShiftRange,
    TokenFields,
)
from tests.fakes.matching import on
from tests.fakes.registry import DeadToken, ScriptedRegistry
from tests.unit.testbed.support import REPOSITORY, SCOPE, bearer, raw_get

DATA = bytes(range(100))
BLOB = "sha256:data"


@pytest.fixture
async def registry(image: Image) -> AsyncIterator[ScriptedRegistry]:
    holder = Image(REPOSITORY, "", b"{}", "application/json", "sha256:0", {BLOB: DATA})
    async with ScriptedRegistry([image, holder], Rules(dialect="none")) as running:
        yield running


def manifest_url(registry: ScriptedRegistry) -> str:
    return f"{registry.url}/v2/{REPOSITORY}/manifests/1"


def blob_url(registry: ScriptedRegistry) -> str:
    return f"{registry.url}/v2/{REPOSITORY}/blobs/{BLOB}"


@pytest.mark.parametrize("status", [405, 403, 429, 500, 502, 503, 504, 416])
async def test_any_status_can_be_scripted(
    client: aiohttp.ClientSession, registry: ScriptedRegistry, status: int
) -> None:
    registry.script(on("HEAD", "manifest"), Reply(status))
    async with client.head(manifest_url(registry)) as response:
        assert response.status == status
    async with client.get(manifest_url(registry)) as response:
        assert response.status == 200
    assert [entry.status for entry in registry.record.all()] == [status, 200]


@pytest.mark.parametrize("after", ["2", "Wed, 21 Oct 2037 07:28:00 GMT", "99999999"])
async def test_retry_after_goes_out_as_written(
    client: aiohttp.ClientSession, registry: ScriptedRegistry, after: str
) -> None:
    registry.script(on(kind="blob"), Reply(429, headers={"Retry-After": after}))
    async with client.get(blob_url(registry)) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, after)


async def test_a_reply_can_be_html(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    registry.script(on(), Reply(200, b"<html>log in</html>", content_type="text/html", reason="Fine"))
    async with client.get(manifest_url(registry)) as response:
        assert (response.reason, response.content_type) == ("Fine", "text/html")
        assert await response.read() == b"<html>log in</html>"


async def test_nth_times_and_starting(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    second = registry.script(on(kind="manifest").nth(2), Reply(500))
    registry.script(on(kind="manifest").starting(4).times(1), Reply(502))
    statuses = []
    for _ in range(5):
        async with client.get(manifest_url(registry)) as response:
            statuses.append(response.status)
    assert statuses == [200, 500, 200, 502, 200]
    assert (second.fitting, second.fired) == (5, 1)
    registry.script(on(), Reply(503))
    registry.behave()
    async with client.get(manifest_url(registry)) as response:
        assert response.status == 200


async def test_matching_by_repository_reference_and_header(
    client: aiohttp.ClientSession, registry: ScriptedRegistry
) -> None:
    registry.script(on(repository="no/such"), Reply(500))
    registry.script(on(reference=BLOB).with_header("Range"), Reply(502))
    async with client.get(blob_url(registry)) as response:
        assert response.status == 200
    async with client.get(blob_url(registry), headers={"Range": "bytes=0-"}) as response:
        assert response.status == 502


async def test_a_request_on_a_used_connection_can_be_meant(
    client: aiohttp.ClientSession, registry: ScriptedRegistry
) -> None:
    registry.script(on().reused(), Reply(500))
    for status in (200, 500):
        async with client.get(manifest_url(registry)) as response:
            assert response.status == status
    first, second = registry.record.all()
    assert (first.reused, second.reused, first.connection == second.connection) == (False, True, True)


async def test_challenges_keep_their_lines(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    lines = ('Basic realm="a, b"', 'Bearer realm="http://x/token",scope="', "Nonsense")
    registry.script(on(kind="manifest"), Challenge(lines))
    async with client.get(manifest_url(registry)) as response:
        assert response.status == 401
        assert response.headers.getall("WWW-Authenticate") == list(lines)


@pytest.mark.parametrize("name", ["Docker-Content-Digest", "Content-Type", "Content-Length"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_headers_can_be_missing(
    client: aiohttp.ClientSession, registry: ScriptedRegistry, image: Image, name: str, method: str
) -> None:
    registry.script(on(kind="manifest"), DropHeader(name))
    async with client.request(method, manifest_url(registry)) as response:
        assert name not in response.headers
        assert await response.read() == (image.manifest if method == "GET" else b"")
        assert response.headers.get("Transfer-Encoding") == ("chunked" if name[-1] == "h" and method == "GET" else None)


async def test_a_body_may_end_with_the_connection(registry: ScriptedRegistry) -> None:
    registry.script(on(), DropHeader("Content-Length"), SetHeader("Connection", "close"))
    head, _, body = (await raw_get(blob_url(registry))).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == DATA


@pytest.mark.parametrize(("where", "at"), [("first", 0), ("middle", 50), ("last", 99), (7, 7)])
async def test_one_byte_is_wrong(
    client: aiohttp.ClientSession, registry: ScriptedRegistry, where: int, at: int
) -> None:
    registry.script(on(kind="blob"), FlipByte(where))
    async with client.get(blob_url(registry), headers={"Range": "bytes=0-"}) as response:
        body = await response.read()
    assert [place for place in range(100) if body[place] != DATA[place]] == [at]


async def test_wrong_digest_and_type_headers(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    registry.script(on(), SetHeader("docker-content-digest", "sha256:wrong"), SetHeader("Content-Type", "text/html"))
    async with client.get(manifest_url(registry)) as response:
        assert response.headers.getall("Docker-Content-Digest") == ["sha256:wrong"]
        assert response.headers.getall("Content-Type") == ["text/html"]


async def test_another_body_keeps_the_digest(
    client: aiohttp.ClientSession, registry: ScriptedRegistry, image: Image
) -> None:
    registry.script(on(kind="manifest"), Body(b"{}"))
    async with client.get(manifest_url(registry)) as response:
        assert response.headers["Docker-Content-Digest"] == image.digest
        assert await response.read() == b"{}"


async def test_gzip(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    registry.script(on(kind="blob"), Gzip())
    async with client.get(blob_url(registry)) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await response.read()) == DATA


@pytest.mark.parametrize(
    ("fault", "seen", "body"),
    [
        (IgnoreRange(), (200, None), DATA),
        (ShiftRange(), (206, "bytes 11-19/100"), DATA[11:20]),
        (ShiftRange(lie=True), (206, "bytes 10-19/100"), DATA[11:21]),
    ],
)
async def test_wrong_ranges(
    client: aiohttp.ClientSession,
    registry: ScriptedRegistry,
    fault: IgnoreRange | ShiftRange,
    seen: tuple[int, str | None],
    body: bytes,
) -> None:
    registry.script(on(kind="blob"), fault)
    async with client.get(blob_url(registry), headers={"Range": "bytes=10-19"}) as response:
        assert (response.status, response.headers.get("Content-Range")) == seen
        assert response.headers["Content-Length"] == str(len(body))
        assert await response.read() == body


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects(client: aiohttp.ClientSession, registry: ScriptedRegistry, status: int) -> None:
    registry.script(on(kind="blob"), Redirect("../elsewhere", status))
    async with client.get(blob_url(registry), allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (status, "../elsewhere")


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        (TokenFields(drop=("token",)), {"access_token", "expires_in"}),
        (TokenFields(drop=("access_token",)), {"token", "expires_in"}),
        (TokenFields(drop=("expires_in",)), {"token", "access_token"}),
        (TokenFields(drop=("token", "access_token"), put={"expires_in": "soon"}), {"expires_in"}),
    ],
)
async def test_token_answers(
    client: aiohttp.ClientSession, registry: ScriptedRegistry, fault: TokenFields, fields: set[str]
) -> None:
    registry.script(on(kind="token"), fault)
    async with client.get(f"{registry.url}/token", params={"scope": SCOPE}) as response:
        assert set(await response.json()) == fields


@pytest.mark.parametrize(
    ("dead_token", "status", "challenge"),
    [
        ("error", 401, 'error="invalid_token"'),
        ("no error", 401, f'scope="{SCOPE}"'),
        ("400", 400, ""),
        ("403", 403, ""),
        ("basic", 401, "Basic realm="),
        ("no challenge", 401, ""),
    ],
)
async def test_tokens_can_be_revoked(
    client: aiohttp.ClientSession, image: Image, dead_token: DeadToken, status: int, challenge: str
) -> None:
    async with ScriptedRegistry([image]) as registry:

        async def token() -> dict[str, str]:
            async with client.get(f"{registry.url}/token", params={"scope": SCOPE}) as response:
                return bearer(await response.json())

        old = await token()
        registry.revoke_tokens(dead_token)
        async with client.get(manifest_url(registry), headers=old) as response:
            assert response.status == status
            assert challenge in response.headers.get("WWW-Authenticate", "")
            assert bool(challenge) == ("WWW-Authenticate" in response.headers)
            assert ("expired" in await response.text()) == (status != 401)
        async with client.get(manifest_url(registry), headers=await token()) as response:
            assert response.status == 200
        assert [entry.credential for entry in registry.record.of("manifest")] == ["bearer 1", "bearer 2"]


async def test_a_large_blob_is_made_while_it_is_sent(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    content = Generated(8 * MIB + 5, seed=1)
    layer = registry.add_blob(REPOSITORY, content)
    registry.add(image_of_layers(REPOSITORY, "large", layer))
    url = f"{registry.url}/v2/{REPOSITORY}/blobs/{layer.digest}"
    async with client.get(url) as response:
        whole = await response.read()
    assert digest_of(content) == layer.digest == digest_of(Generated(layer.size, seed=1))
    assert digest_of(Generated(layer.size, seed=2)) != layer.digest
    async with client.get(url, headers={"Range": "bytes=300000-5000000"}) as response:
        assert await response.read() == whole[300000:5000001]


async def test_a_manifest_of_any_size(client: aiohttp.ClientSession, registry: ScriptedRegistry) -> None:
    image = image_with_manifest_of(REPOSITORY, "huge", 4 * MIB + 1)
    registry.add(image)
    async with client.head(f"{registry.url}/v2/{REPOSITORY}/manifests/huge") as response:
        assert response.headers["Content-Length"] == str(4 * MIB + 1)
        assert response.headers["Docker-Content-Digest"] == image.digest
