"""What is no pull is refused here, and no upstream hears of it."""

import pytest

from tests.fakes.client import NodeClient
from tests.fakes.proxy import NAME, REG, manifest
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.usefixtures("with_and_without_cache")

DIGEST = f"sha256:{'a' * 64}"
ROUTES = (
    "/v2/",
    f"/v2/{NAME}/manifests/1?ns={REG}",
    f"/v2/{NAME}/manifests/{DIGEST}?ns={REG}",
    f"/v2/{NAME}/blobs/{DIGEST}?ns={REG}",
    f"/v2/{NAME}/blobs/uploads/?ns={REG}",
    f"/v2/{NAME}/blobs/uploads/?mount={DIGEST}&from=library/other&ns={REG}",
    f"/v2/{NAME}/blobs/uploads/6b3c9a93?ns={REG}",
    f"/v2/{NAME}/tags/list?ns={REG}",
    f"/v2/{NAME}/referrers/{DIGEST}?ns={REG}",
    "/elsewhere",
)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_every_other_method_is_405_on_every_route(
    node: NodeClient, registry: ScriptedRegistry, method: str
) -> None:
    for route in ROUTES:
        got = await node.send(method, route)
        assert (got.status, got.code, got.header("Allow")) == (405, "UNSUPPORTED", "GET, HEAD")
        assert got.reason.startswith(f"{method} is not supported")
    assert registry.record.all() == ()


async def test_options_of_the_server_as_a_whole_is_405(node: NodeClient) -> None:
    assert (await node.send("OPTIONS", "*")).status == 405


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["blobs/uploads/", "blobs/uploads/6b3c9a93"])
async def test_uploads_are_refused_also_to_get(
    node: NodeClient, registry: ScriptedRegistry, method: str, path: str
) -> None:
    assert (await node.send(method, f"/v2/{NAME}/{path}?ns={REG}")).status == 405
    assert (await node.send(method, "/v2/_catalog")).status == 405
    assert registry.record.all() == ()


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_push_with_a_body_is_405(node: NodeClient, registry: ScriptedRegistry, method: str) -> None:
    got = await node.send(method, f"/v2/{NAME}/blobs/uploads/?ns={REG}", body=b"x" * 5000)
    assert (got.status, got.code) == (405, "UNSUPPORTED")
    assert registry.record.all() == ()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_pull_with_a_body_is_refused(node: NodeClient, registry: ScriptedRegistry, method: str) -> None:
    got = await node.send(method, manifest(), body=b"{}")
    assert got.status == 400
    assert got.reason == "a pull must not have a body"
    assert registry.record.all() == ()


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_ping_is_answered_here(node: NodeClient, registry: ScriptedRegistry, method: str, path: str) -> None:
    got = await node.send(method, path)
    assert (got.status, got.header("Content-Length")) == (200, "2")
    assert got.header("Content-Type") == "application/json"
    assert got.body == (b"{}" if method == "GET" else b"")
    assert registry.record.all() == ()


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1/",
        "/v2/library",
        f"/v2/{NAME}/manifests/?ns={REG}",
        f"/v2/{NAME}/manifests/-bad?ns={REG}",
        f"/v2/{NAME}/manifests/{'x' * 129}?ns={REG}",
        f"/v2/{NAME.upper()}/manifests/1?ns={REG}",
        f"/v2/library/../../admin/manifests/1?ns={REG}",
        f"/v2/library%2f..%2fsecret/manifests/1?ns={REG}",
        f"/v2/{NAME}%00/manifests/1?ns={REG}",
        f"/v2/{NAME}%0d%0aX-Evil:1/manifests/1?ns={REG}",
        f"/v2/{NAME}%ff/manifests/1?ns={REG}",
        f"/v2/{'a/' * 600}a/manifests/1?ns={REG}",
        f"/v2/{NAME}/blobs/sha256:abc?ns={REG}",
        f"/v2/{NAME}/blobs/md5:{'a' * 32}?ns={REG}",
        f"/v2/{NAME}/referrers/latest?ns={REG}",
        f"/v2/{NAME}/manifests/1?ns={REG}&ns={REG}",
        f"/v2/{NAME}/tags/list?n=many&ns={REG}",
    ],
)
async def test_what_is_malformed_is_400_and_goes_nowhere(
    node: NodeClient, registry: ScriptedRegistry, target: str
) -> None:
    got = await node.get(target)
    assert got.status == 400
    assert got.code in {"NAME_INVALID", "DIGEST_INVALID"}
    assert registry.record.all() == ()
