"""Which registry a request means: ns=, Host, the first part of the path, the default (DESIGN 4.2)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Rules
from tests.fakes.client import NodeClient
from tests.fakes.proxy import NAME, REG, REWRITES, settings, started
from tests.fakes.registry import ScriptedRegistry

OTHER = make_image("library/app", "1")
"""What the default registry has under the name that the node asks for."""


@pytest.fixture
async def other() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry([OTHER], Rules(dialect="none")) as server:
        yield server


@pytest.fixture
async def node(image: Image, other: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    async with ScriptedRegistry([image], Rules(dialect="none")) as registry:
        configuration: dict[str, Any] = settings([registry.url], defaultRegistry="docker.io")
        configuration["registries"]["docker.io"] = {"endpoints": [other.url]}
        configuration["registries"]["localhost:5000"] = {"endpoints": [registry.url], "rewrites": list(REWRITES)}
        async with started(configuration) as proxy:
            yield proxy.node


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (f"/v2/{NAME}/manifests/1?ns={REG}", None),
        (f"/v2/{REG}/{NAME}/manifests/1?ns={REG}", None),
        (f"/v2/{NAME}/manifests/1?ns={REG}", "docker.io"),
        (f"/v2/{NAME}/manifests/1", REG),
        (f"/v2/{NAME}/manifests/1", REG.upper()),
        (f"/v2/{NAME}/manifests/1", "localhost:5000"),
        (f"/v2/{REG}/{NAME}/manifests/1", None),
        (f"/v2/localhost:5000/{NAME}/manifests/1", None),
        (f"/v2/{NAME}/manifests/1?ns=localhost%3A5000", None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_registry_is_named(
    node: NodeClient, image: Image, method: str, target: str, host: str | None
) -> None:
    got = await node.send(method, target, *([("Host", host)] if host else []))
    assert (got.status, got.header("Docker-Content-Digest")) == (200, image.digest)


async def test_without_a_name_the_default_registry_is_meant(node: NodeClient) -> None:
    for target in (f"/v2/{NAME}/manifests/1", "/v2/app/manifests/1"):  # Docker Hub's official images have no library/
        got = await node.get(target)
        assert (got.body, got.header("OCI-Namespace")) == (OTHER.manifest, None)


async def test_the_namespace_is_echoed_only_where_it_was_sent(node: NodeClient) -> None:
    assert (await node.head(f"/v2/{REG}/{NAME}/manifests/1")).header("OCI-Namespace") is None
    assert (await node.head(f"/v2/{NAME}/manifests/1?ns={REG}")).header("OCI-Namespace") == REG


@pytest.mark.parametrize(
    "namespace", ["unknown.example", "127.0.0.1:1", "169.254.169.254", "", "a%20b", "reg.example:"]
)
async def test_an_unknown_registry_is_403_and_nothing_is_requested(
    node: NodeClient, other: ScriptedRegistry, namespace: str
) -> None:
    got = await node.get(f"/v2/{NAME}/manifests/1?ns={namespace}")
    assert (got.status, got.code) == (403, "DENIED")
    assert ("is not configured" if namespace else "ns= is empty") in got.reason
    assert other.record.all() == ()


async def test_without_default_a_request_must_name_a_registry(image: Image) -> None:
    async with (
        ScriptedRegistry([image], Rules(dialect="none")) as registry,
        started(settings([registry.url])) as proxy,
    ):
        got = await proxy.node.get(f"/v2/{NAME}/manifests/1")
        assert (got.status, got.code) == (403, "DENIED")
        assert registry.record.all() == ()


async def test_the_wildcard_forwards_the_namespace_where_that_is_set(image: Image) -> None:
    async with ScriptedRegistry([image], Rules(dialect="none")) as registry:
        endpoint = {"url": registry.url, "forwardNamespace": True}
        configuration = settings([registry.url])
        configuration["registries"] = {"*": {"endpoints": [endpoint], "rewrites": list(REWRITES)}}
        async with started(configuration) as proxy:
            got = await proxy.node.get(f"/v2/{NAME}/manifests/1?ns=any.example:5000")
        assert got.body == image.manifest
        assert got.header("OCI-Namespace") == "any.example:5000"
        assert {entry.query for entry in registry.record.of("manifest")} == {(("ns", "any.example:5000"),)}


@pytest.mark.parametrize(
    ("path", "requested", "upstream"),
    [("/v2/mirror", "/v2/mirror/team/app", "mirror/team/app"), ("/api/docker", "/api/docker/team/app", "team/app")],
)
async def test_endpoints_with_a_path(path: str, requested: str, upstream: str) -> None:
    """`/v2/project` is a prefix of the repository; any other path replaces /v2 and is no part of it."""
    root = "/v2" if path.startswith("/v2") else path
    async with ScriptedRegistry([make_image(upstream, "1")], root=root) as registry:
        configuration = settings([registry.url])
        configuration["registries"][REG]["endpoints"] = [registry.url + path]
        async with started(configuration) as proxy:
            assert (await proxy.node.get(f"/v2/{NAME}/manifests/1?ns={REG}")).status == 200
        assert {entry.path for entry in registry.record.of("manifest")} == {f"{requested}/manifests/1"}
        assert registry.record.scopes == {f"repository:{upstream}:pull"}


async def test_a_node_that_still_rewrites_is_served(image: Image) -> None:
    async with ScriptedRegistry([image], Rules(dialect="none")) as registry:
        configuration = settings([registry.url])
        rules = [{"pattern": "(.*)", "replacement": "team/$1"}]
        configuration["registries"][REG] |= {"rewrites": rules, "nodeRewrites": True}
        async with started(configuration) as proxy:
            assert (await proxy.node.get(f"/v2/team/app/manifests/1?ns={REG}")).body == image.manifest
            assert (await proxy.node.get(f"/v2/app/manifests/1?ns={REG}")).body == image.manifest
