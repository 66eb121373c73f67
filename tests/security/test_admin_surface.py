"""What each port answers: the known paths and nothing else, and none answers for another."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from proxy.testbed.tokens import Rules
from tests.fakes.client import NodeClient, read_head
from tests.fakes.proxy import ProxyUnderTest, settings, started
from tests.fakes.registry import ScriptedRegistry

pytestmark = [pytest.mark.security, pytest.mark.asyncio(loop_scope="module")]

HEALTH = ("/metrics", "/healthz", "/readyz")
STATUS_PAGE = ("/status", "/status.json", "/status/explain", "/status/explain?image=reg.example/library/app:1")
ADMIN_ONLY = (*HEALTH, "/status", "/status.json")
NOWHERE = (
    "/debug",
    "/debug/pprof/",
    "/debug/vars",
    "/debug/web/",
    "/config",
    "/env",
    "/admin",
    "/console",
    "/api",
    "/api/v2.0/systeminfo",
    "/-/reload",
    "/-/quit",
    "/reload",
    "/shutdown",
    "/purge",
    "/cache",
    "/server-status",
    "/swagger",
    "/graphql",
    "/.env",
    "/.git/config",
    "/index.html",
    "/favicon.ico",
    "/metrics/..",
    "/metrics%00",
    "/%2e%2e/etc/passwd",
    "//metrics",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[tuple[ProxyUnderTest, ScriptedRegistry]]:
    """A proxy whose registry nobody is to ask."""
    addresses = {"address": "127.0.0.1:0", "metricsAddress": "127.0.0.1:0"}
    async with (
        ScriptedRegistry([], Rules(dialect="none")) as registry,
        started(settings([registry.url], admin=addresses)) as proxy,
    ):
        yield proxy, registry


@pytest.fixture(scope="module")
def metrics(served: tuple[ProxyUnderTest, ScriptedRegistry]) -> NodeClient:
    """The address of metrics and health without the status page."""
    found = served[0].metrics
    assert found is not None
    return found


async def status_of(node: NodeClient, method: str, target: str) -> int:
    """The status of a request to a port that is not held to the rules for nodes."""
    async with node.opened(method, target, ("Connection", "close")) as (reader, _):
        status, _, _ = await read_head(reader)
        return status


@pytest.mark.parametrize("path", [*ADMIN_ONLY, *NOWHERE])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_node_facing_port_serves_v2_alone(
    served: tuple[ProxyUnderTest, ScriptedRegistry], method: str, path: str
) -> None:
    proxy, registry = served
    got = await proxy.node.send(method, path)
    assert got.status == 400
    assert b"scope_proxy_" not in got.body
    assert registry.record.all() == ()


@pytest.mark.parametrize("path", [*NOWHERE, "/", "/v2/", "/v2/library/app/manifests/1?ns=reg.example", "/token"])
async def test_the_admin_port_serves_its_own_pages_alone(
    served: tuple[ProxyUnderTest, ScriptedRegistry], path: str
) -> None:
    proxy, registry = served
    assert await status_of(proxy.admin, "GET", path) == 404
    assert registry.record.all() == ()


@pytest.mark.parametrize("path", ADMIN_ONLY)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_the_admin_port_takes_no_orders(
    served: tuple[ProxyUnderTest, ScriptedRegistry], method: str, path: str
) -> None:
    proxy, _ = served
    assert await status_of(proxy.admin, method, path) == 405


@pytest.mark.parametrize("path", ADMIN_ONLY)
async def test_its_pages_are_there(served: tuple[ProxyUnderTest, ScriptedRegistry], path: str) -> None:
    proxy, _ = served
    assert await status_of(proxy.admin, "GET", path) == 200


FOREIGN = (*STATUS_PAGE, *NOWHERE, "/", "/v2/", "/v2/library/app/manifests/1?ns=reg.example", "/token", "/status/")


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_the_metrics_address_serves_metrics_and_health_alone(
    metrics: NodeClient, served: tuple[ProxyUnderTest, ScriptedRegistry], method: str, path: str
) -> None:
    assert await status_of(metrics, method, path) == 404
    assert served[1].record.all() == ()


@pytest.mark.parametrize("path", HEALTH)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_the_metrics_address_takes_no_orders(metrics: NodeClient, method: str, path: str) -> None:
    assert await status_of(metrics, method, path) == 405


@pytest.mark.parametrize("path", HEALTH)
async def test_metrics_and_health_are_at_both_addresses(
    metrics: NodeClient, served: tuple[ProxyUnderTest, ScriptedRegistry], path: str
) -> None:
    assert [await status_of(node, "GET", path) for node in (served[0].admin, metrics)] == [200, 200]


async def test_the_metrics_address_tells_no_configuration(metrics: NodeClient) -> None:
    for path in HEALTH:
        async with metrics.opened("GET", path, ("Connection", "close")) as (reader, _):
            page = await reader.read()
        assert b"200 OK" in page.partition(b"\r\n")[0]
        assert not [word for word in (b"endpoints", b"listeners", b"library/app", b"127.0.0.1") if word in page]


ROUTES = (
    "/",
    "/v2/",
    "/v2/_catalog",
    "/v2/library/app/manifests/1",
    f"/v2/library/app/blobs/sha256:{'a' * 64}",
    "/v2/library/app/blobs/uploads/",
    "/v2/library/app/tags/list",
    f"/v2/library/app/referrers/sha256:{'a' * 64}",
    "/healthz",
    "*",
)
METHODS = "POST PUT PATCH DELETE OPTIONS TRACE PROPFIND MKCOL COPY MOVE LOCK PURGE get Head SSH-2.0 PRI"


@pytest.mark.parametrize("method", METHODS.split(" "))
async def test_no_method_but_get_and_head_reaches_anything(
    served: tuple[ProxyUnderTest, ScriptedRegistry], method: str
) -> None:
    proxy, registry = served
    for route in ROUTES:
        assert await status_of(proxy.node, method, route) in {400, 405}
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        got = await proxy.node.get("/v2/", (header, method))
        assert (got.status, got.body) == (200, b"{}")
    assert registry.record.all() == ()
