import base64
import json
from typing import Any

import aiohttp
import pytest

from proxy.testbed.images import Image, demo_images, make_artifact, make_image
from proxy.testbed.strict_registry import StrictRegistry
from proxy.testbed.tokens import Account, Rules
from tests.unit.testbed.support import REPOSITORY, SCOPE, bearer, clocked

OTHER = "repository:cp/other:pull"
ACCOUNT = Account("robot", "hunter2", identity_token="identity-1")


async def ask(client: aiohttp.ClientSession, registry: StrictRegistry, *scopes: str) -> tuple[int, Any]:
    query = [("service", "strict-registry"), *(("scope", scope) for scope in scopes)]
    async with client.get(f"{registry.url}/token", params=query) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("status", [404, 401, 403, 500])
@pytest.mark.parametrize("scopes", [(OTHER, SCOPE), (SCOPE, OTHER), (f"{OTHER} {SCOPE}",), (OTHER,)])
async def test_a_foreign_scope_is_refused(
    client: aiohttp.ClientSession, image: Image, status: int, scopes: tuple[str, ...]
) -> None:
    async with StrictRegistry([image], Rules(refuse=status)) as registry:
        answered, document = await ask(client, registry, *scopes)
    assert answered == status
    assert "token" not in document
    assert OTHER in document["errors"][0]["message"]


@pytest.mark.parametrize(
    "scope",
    [
        f"repository:{REPOSITORY}:pull,push",
        f"repository:{REPOSITORY}:*",
        f"repository:{REPOSITORY}:push",
        "registry:catalog:*",
        f"{SCOPE}x",
        SCOPE.upper(),
    ],
)
async def test_anything_but_the_exact_scope_is_refused(client: aiohttp.ClientSession, image: Image, scope: str) -> None:
    async with StrictRegistry([image]) as registry:
        assert (await ask(client, registry, scope))[0] == 404


@pytest.mark.parametrize("status", [404, 401, 403, 500, None])
async def test_the_one_scope_is_granted(client: aiohttp.ClientSession, image: Image, status: int | None) -> None:
    async with StrictRegistry([image], Rules(refuse=status)) as registry:
        answered, document = await ask(client, registry, SCOPE)
        assert answered == 200
        assert document["token"] == document["access_token"]
        assert document["expires_in"] == 300
        assert registry.record.tokens[0].scope_parameters == (SCOPE,)


async def test_a_tolerant_server_grants_what_it_knows(client: aiohttp.ClientSession, image: Image) -> None:
    async with StrictRegistry([image, make_image("cp/second", "1")], Rules(refuse=None)) as registry:
        _, document = await ask(client, registry, OTHER, SCOPE)
        url = f"{registry.url}/v2/cp/second/manifests/1"
        async with client.get(url, headers=bearer(document)) as response:
            assert response.status == 401
            assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]
        url = f"{registry.url}/v2/{REPOSITORY}/manifests/1"
        async with client.get(url, headers=bearer(document)) as response:
            assert response.status == 200
        assert registry.record.scopes == {OTHER, SCOPE}


async def test_the_challenge_names_the_realm_and_the_one_scope(client: aiohttp.ClientSession, image: Image) -> None:
    async with (
        StrictRegistry([image]) as registry,
        client.head(f"{registry.url}/v2/{REPOSITORY}/manifests/1?ns=cp.icr.io") as response,
    ):
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == (
            f'Bearer realm="{registry.url}/token",service="strict-registry",scope="{SCOPE}"'
        )


async def test_posted_forms_are_recorded_as_sent(client: aiohttp.ClientSession, image: Image) -> None:
    form = {"grant_type": "password", "username": "robot", "password": "hunter2", "scope": f"{OTHER} {SCOPE}"}
    async with StrictRegistry([image], Rules(accounts=(ACCOUNT,))) as registry:
        async with client.post(f"{registry.url}/token", data=form) as response:
            assert response.status == 404
        async with client.post(f"{registry.url}/token", data=form | {"scope": SCOPE}) as response:
            assert response.status == 200
        first, second = registry.record.tokens
    assert (first.scope_parameters, first.scopes) == ((f"{OTHER} {SCOPE}",), (OTHER, SCOPE))
    assert second.credential == "password robot"
    assert "hunter2" not in repr((first, second))


async def test_an_identity_token_is_taken_in_a_form(client: aiohttp.ClientSession, image: Image) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "identity-1", "scope": SCOPE}
    async with StrictRegistry([image], Rules(accounts=(ACCOUNT,))) as registry:
        async with client.post(f"{registry.url}/token", data=form) as response:
            assert response.status == 200
        assert registry.record.tokens[0].credential == "refresh-token"


async def test_post_can_be_off(client: aiohttp.ClientSession, image: Image) -> None:
    async with (
        StrictRegistry([image], Rules(post=False)) as registry,
        client.post(f"{registry.url}/token", data={"scope": SCOPE}) as response,
    ):
        assert response.status == 405
        assert response.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    ("credential", "status"), [("robot:hunter2", 200), ("robot:wrong", 401), (":", 401), (None, 401)]
)
async def test_credentials_are_checked(
    client: aiohttp.ClientSession, image: Image, credential: str | None, status: int
) -> None:
    headers = {"Authorization": f"Basic {base64.b64encode(credential.encode()).decode()}"} if credential else {}
    async with (
        StrictRegistry([image], Rules(accounts=(ACCOUNT,))) as registry,
        client.get(f"{registry.url}/token", params={"scope": SCOPE}, headers=headers) as response,
    ):
        assert response.status == status


async def test_an_account_pulls_only_its_repositories(client: aiohttp.ClientSession, image: Image) -> None:
    account = Account("robot", "hunter2", repositories=("team/other",))
    rules = Rules(refuse=403, accounts=(account,))
    async with (
        StrictRegistry([image, make_image("team/other", "1")], rules) as registry,
        client.get(
            f"{registry.url}/token", params={"scope": SCOPE}, headers={"Authorization": "Basic cm9ib3Q6aHVudGVyMg=="}
        ) as response,
    ):
        assert response.status == 403


async def test_a_token_dies_when_its_time_is_over(client: aiohttp.ClientSession, image: Image) -> None:
    now, clock = clocked()
    async with StrictRegistry([image], Rules(expires_in=60), clock=clock) as registry:
        _, document = await ask(client, registry, SCOPE)
        url = f"{registry.url}/v2/{REPOSITORY}/manifests/1"
        for passed, status, reason in ((59.0, 200, ""), (60.0, 401, 'error="invalid_token"')):
            now[0] = passed
            async with client.get(url, headers=bearer(document)) as response:
                assert response.status == status
                assert reason in response.headers.get("WWW-Authenticate", "")
        assert [entry.credential for entry in registry.record.of("manifest")] == ["bearer 1", "bearer 1"]


async def test_basic_dialect(client: aiohttp.ClientSession, image: Image) -> None:
    async with StrictRegistry([image], Rules(dialect="basic", accounts=(ACCOUNT,))) as registry:
        url = f"{registry.url}/v2/{REPOSITORY}/manifests/1"
        async with client.get(url) as response:
            assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="strict-registry"')
        headers = {"Authorization": "Basic cm9ib3Q6aHVudGVyMg=="}
        async with client.get(url, headers=headers) as response:
            assert response.status == 200
        assert registry.record.all()[1].credential == "basic robot"


@pytest.mark.parametrize("image", demo_images(), ids=lambda image: image.repository)
async def test_content_by_tag_and_digest(client: aiohttp.ClientSession, image: Image) -> None:
    async with StrictRegistry([image], Rules(dialect="none")) as registry:
        base = f"{registry.url}/v2/{image.repository}"
        for reference in (image.tag, image.digest):
            async with client.get(f"{base}/manifests/{reference}") as response:
                assert await response.read() == image.manifest
                assert response.headers["Docker-Content-Digest"] == image.digest
                assert response.headers["Content-Type"] == image.media_type
            async with client.head(f"{base}/manifests/{reference}") as response:
                assert response.headers["Content-Length"] == str(len(image.manifest))
                assert await response.read() == b""
        for digest, blob in image.blobs.items():
            async with client.get(f"{base}/blobs/{digest}") as response:
                assert await response.read() == blob


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
    ],
)
async def test_ranges(
    client: aiohttp.ClientSession, header: str, status: int, body: bytes | None, content_range: str | None
) -> None:
    image = Image(REPOSITORY, "1", b"{}", "application/json", "sha256:0", {"sha256:1": b"0123456789"})
    async with (
        StrictRegistry([image], Rules(dialect="none")) as registry,
        client.get(f"{registry.url}/v2/{REPOSITORY}/blobs/sha256:1", headers={"Range": header}) as response,
    ):
        assert response.status == status
        assert response.headers.get("Content-Range") == content_range
        assert body is None or await response.read() == body


async def test_tags_come_in_pages(client: aiohttp.ClientSession) -> None:
    images = [make_image(REPOSITORY, tag) for tag in ("3", "1", "2")]
    async with StrictRegistry(images, Rules(dialect="none")) as registry:
        pages = []
        url = f"/v2/{REPOSITORY}/tags/list?n=2"
        while url:
            async with client.get(f"{registry.url}{url}") as response:
                pages.append((await response.json())["tags"])
                link = response.headers.get("Link", "")
                url = link.partition("<")[2].partition(">")[0]
        assert pages == [["1", "2"], ["3"]]


@pytest.mark.parametrize(("wanted", "found"), [("", 2), ("application/spdx+json", 1), ("text/none", 0)])
async def test_referrers(client: aiohttp.ClientSession, image: Image, wanted: str, found: int) -> None:
    artifacts = [make_artifact(image, "application/spdx+json"), make_artifact(image, "application/sig")]
    query = {"artifactType": wanted} if wanted else {}
    async with (
        StrictRegistry([image, *artifacts], Rules(dialect="none")) as registry,
        client.get(f"{registry.url}/v2/{REPOSITORY}/referrers/{image.digest}", params=query) as response,
    ):
        assert len(json.loads(await response.read())["manifests"]) == found


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/v2/{REPOSITORY}/manifests/none", "MANIFEST_UNKNOWN"),
        (f"/v2/{REPOSITORY}/blobs/sha256:none", "BLOB_UNKNOWN"),
        ("/v2/no/such/manifests/1", "NAME_UNKNOWN"),
        ("/elsewhere", "NAME_UNKNOWN"),
    ],
)
async def test_what_is_not_there(client: aiohttp.ClientSession, image: Image, path: str, code: str) -> None:
    async with (
        StrictRegistry([image], Rules(dialect="none")) as registry,
        client.get(f"{registry.url}{path}") as response,
    ):
        assert response.status == 404
        assert (await response.json())["errors"][0]["code"] == code


async def test_another_root_and_methods(client: aiohttp.ClientSession, image: Image) -> None:
    async with StrictRegistry([image], Rules(dialect="none"), root="/api/docker") as registry:
        async with client.get(f"{registry.url}/api/docker/{REPOSITORY}/manifests/1") as response:
            assert response.status == 200
        async with client.get(f"{registry.url}/api/docker/") as response:
            assert response.status == 200
        async with client.put(f"{registry.url}/api/docker/{REPOSITORY}/manifests/1", data=b"") as response:
            assert response.status == 405
