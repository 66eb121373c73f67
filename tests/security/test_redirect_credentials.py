"""What identifies us goes to the exact origin, whatever redirects say, and what nodes send goes nowhere."""

import pytest

from proxy.testbed.images import Image
from proxy.testbed.record import Call
from tests.fakes.canaries import INBOUND, basic
from tests.fakes.changes import Redirect, SetHeader
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import LOGIN, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import Canary

pytestmark = pytest.mark.security

PULL = on().with_header("Authorization").where(lambda call: call.kind != "token")
ALLOWED = {"host", "user-agent", "accept", "accept-encoding", "range", "if-range"}
UPSTREAM_ALLOWED = ALLOWED | {"x-request-id", "via", "if-none-match"}
NODE_HEADERS = (
    ("Authorization", f"Basic {basic('node', INBOUND)}"),
    ("Proxy-Authorization", f"Basic {basic('node', INBOUND)}"),
    ("Cookie", f"session={INBOUND}"),
    ("Referer", f"http://node.example/?token={INBOUND}"),
    ("X-Registry-Auth", INBOUND),
    ("X-Forwarded-For", "10.1.2.3"),
    ("X-Real-IP", "10.1.2.3"),
    ("X-Api-Key", INBOUND),
)


def remembered(registry: ScriptedRegistry) -> list[Call]:
    """Every request from here on with all of its headers, which the usual record leaves out where they are secret."""
    calls: list[Call] = []

    def note(call: Call) -> bool:
        calls.append(call)
        return False

    registry.script(on().where(note))
    return calls


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["blob", "manifest"])
async def test_another_origin_sees_nothing_of_us(
    local: NodeClient, registry: ScriptedRegistry, canary: Canary, image: Image, kind: str, method: str
) -> None:
    registry.script(PULL, Redirect(f"{canary.url}/object?X-Amz-Signature=s"))
    target = blob(layer_of(image)[0]) if kind == "blob" else manifest()
    await local.send(method, target, *NODE_HEADERS)
    seen = canary.record.all()
    assert seen
    assert {entry.credential for entry in seen} == {"anonymous"}
    assert set().union(*(entry.headers for entry in seen)) <= ALLOWED


@pytest.mark.parametrize("kind", ["blob", "manifest"])
async def test_the_way_back_to_the_origin_carries_nothing_either(
    local: NodeClient, registry: ScriptedRegistry, canary: Canary, image: Image, kind: str
) -> None:
    """Another server must not choose the path under which our credentials are sent."""
    registry.script(PULL, Redirect(f"{canary.url}/hop"))
    canary.script(on(), Redirect(f"{registry.url}/v2/team/secret/blobs/x"))
    target = blob(layer_of(image)[0]) if kind == "blob" else manifest()
    assert (await local.get(target)).status >= 400
    back = [entry for entry in registry.record.all() if "secret" in entry.path]
    assert back
    assert {entry.credential for entry in back} == {"anonymous"}


async def test_cookies_are_neither_kept_nor_sent(
    local: NodeClient, registry: ScriptedRegistry, canary: Canary, image: Image
) -> None:
    calls = remembered(registry)
    registry.script(
        on(kind="blob").with_header("Authorization"),
        Redirect(f"{canary.url}/object"),
        SetHeader("Set-Cookie", "session=canary; Domain=127.0.0.1; Path=/"),
    )
    for _ in range(2):
        got = await local.get(blob(layer_of(image)[0]))
        assert got.header("Set-Cookie") is None
    assert calls
    assert {call.header("Cookie") for call in calls} == {""}
    assert {entry.credential for entry in canary.record.all()} == {"anonymous"}


@pytest.mark.parametrize("kind", ["blob", "manifest", "tags", "referrers"])
async def test_headers_of_a_node_are_not_passed_on(registry: ScriptedRegistry, image: Image, kind: str) -> None:
    calls = remembered(registry)
    targets = {
        "blob": blob(layer_of(image)[0]),
        "manifest": manifest(),
        "tags": "/v2/library/app/tags/list?ns=reg.example",
        "referrers": f"/v2/library/app/referrers/{image.digest}?ns=reg.example",
    }
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        assert (await proxy.node.get(targets[kind], *NODE_HEADERS)).status == 200
    for call in calls:
        names = {name.lower() for name, _ in call.headers}
        assert names <= UPSTREAM_ALLOWED | {"authorization"}
        assert INBOUND not in str(call.headers)
        assert basic("node", INBOUND) not in str(call.headers)


async def test_a_password_in_a_location_is_no_password_of_ours(
    local: NodeClient, registry: ScriptedRegistry, canary: Canary, image: Image
) -> None:
    location = canary.url.replace("http://", "http://robot:canary-password@")
    registry.script(on(kind="blob").with_header("Authorization"), Redirect(f"{location}/object"))
    got = await local.get(blob(layer_of(image)[0]))
    assert got.status == 403
    assert canary.record.all() == ()
