"""Host and the X-Forwarded family: a client's word on who we are becomes no address and no answer to others."""

import pytest

from tests.fakes.client import NodeClient
from tests.fakes.proxy import NAME, REG, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import World

pytestmark = pytest.mark.security

EVIL = "evil.example"
CLAIMS = (
    ("Host", EVIL),
    ("Host", "169.254.169.254"),
    ("Host", "127.0.0.1:{canary}"),
    ("Host", f"{REG}.{EVIL}"),
    ("X-Forwarded-Host", EVIL),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Forwarded-Port", "1"),
    ("X-Forwarded-Prefix", "//evil.example"),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Forwarded-Server", EVIL),
    ("X-Host", EVIL),
    ("X-Original-URL", "/v2/evil/manifests/1"),
    ("X-Rewrite-URL", "/v2/evil/manifests/1"),
    ("Forwarded", f"for=127.0.0.1;host={EVIL};proto=http"),
    ("Origin", f"https://{EVIL}"),
)
UNKNOWN = (
    EVIL,
    "169.254.169.254",
    "127.0.0.1:{canary}",
    f"{REG}:443",
    f"user@{REG}",
    f"{REG}@{EVIL}",
    f"{REG}/",
    "[::1]",
)


@pytest.mark.parametrize("claim", CLAIMS, ids="-".join)
async def test_with_ns_they_mean_nothing(
    node: NodeClient, upstream: ScriptedRegistry, world: World, claim: tuple[str, str]
) -> None:
    header = (claim[0], claim[1].replace("{canary}", str(world.canary_port)))
    upstream.library.repositories["team/app"].tags["2"] = upstream.library.repositories["team/app"].tags["1"]
    got = await node.get(manifest(), header)
    assert got.status == 200
    listed = await node.get(f"/v2/{NAME}/tags/list?n=1&ns={REG}", header)
    assert listed.header("Link") == f'</v2/{NAME}/tags/list?last=1&n=1&ns={REG}>; rel="next"'
    for name, value in (*got.lines, *listed.lines):
        assert EVIL not in value
        assert name.lower() != "access-control-allow-origin"
    assert {entry.headers["host"] for entry in upstream.record.all()} == {"registry.example"}
    world.assert_untouched()


@pytest.mark.parametrize("host", UNKNOWN)
async def test_without_ns_an_unknown_host_is_refused(
    node: NodeClient, upstream: ScriptedRegistry, world: World, host: str
) -> None:
    host = host.replace("{canary}", str(world.canary_port))
    got = await node.get(f"/v2/{NAME}/manifests/1", ("Host", host))
    assert got.status in {400, 403}
    assert upstream.record.all() == ()
    assert world.lookups == []
    world.assert_untouched()


@pytest.mark.parametrize("scheme", ["http", "https", "ftp"])
async def test_an_absolute_target_is_read_for_its_path_at_most(
    node: NodeClient, upstream: ScriptedRegistry, world: World, scheme: str
) -> None:
    """We are no forward proxy: the server in the request line is nobody whom we ask."""
    got = await node.get(f"{scheme}://{EVIL}{manifest()}")
    assert got.status in {200, 400, 403}
    assert {entry.headers["host"] for entry in upstream.record.all()} <= {"registry.example"}
    assert EVIL not in world.lookups
    world.assert_untouched()


async def test_connect_opens_no_tunnel(node: NodeClient, upstream: ScriptedRegistry, world: World) -> None:

    async with node.opened("CONNECT", f"{EVIL}:443") as (reader, _):
        line = await reader.readline()

    assert int(line.split(b" ")[1]) in {400, 403, 404, 405}
    assert upstream.record.all() == ()
    world.assert_untouched()
