"""Token servers that a challenge names: no request goes to one that the operator did not trust (CVE-2026-33540)."""

import pytest

from proxy.testbed.images import Image
from tests.fakes.canaries import PASSWORD
from tests.fakes.changes import Challenge, Redirect
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import (
    LOGIN,
    OTHER_LOGIN,
    authority,
    blob,
    layer_of,
    manifest,
    settings,
    started,
)
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import Canary, World

pytestmark = pytest.mark.security

HOSTILE = (
    "http://registry.example/token",
    "http://registry.example:443/token",
    "https://robot@registry.example/token",
    "https://robot:x@registry.example/token",
    "https://registry.example@evil.example/token",
    "https://registry.example\\@evil.example/token",
    "https://127.0.0.1/token",
    "http://127.0.0.1:{canary}/token",
    "https://[::1]/token",
    "https://[::ffff:127.0.0.1]/token",
    "https://0.0.0.0/token",
    "https://2130706433/token",
    "https://0177.0.0.1/token",
    "https://0x7f.1/token",
    "https://127.1/token",
    "http://169.254.169.254/latest/meta-data/iam/",
    "https://[fd00:ec2::254]/latest/",
    "https://100.100.100.200/latest/",
    "https://10.0.0.1/token",
    "https://172.16.0.1/token",
    "https://192.168.1.1/token",
    "https://[fe80::1]/token",
    "https://[fe80::1%25eth0]/token",
    "https://93.184.216.34/token",
    "https://evil.example/token",
    "https://registry.example:8443/token",
    "https://auth.registry.example/token",
    "https://example/token",
    "https://co.example/token",
    "https://registry.example./token",
    "https://registry.example.evil.example/token",
    "https://evilregistry.example/token",
    "https://registry.exämple/token",
    "https://xn--registry-o4a.example/token",
    "https://registry.example%2eevil.example/token",
    "//evil.example/token",
    "https:evil.example/token",
    "https:///evil.example/token",
    "file:///etc/passwd",
    "gopher://registry.example/token",
    "ldap://registry.example/token",
    "data:application/json,{}",
    "https://registry.example/token\tx",
)


def bearer(realm: str) -> str:
    """A challenge that names a token server."""
    return f'Bearer realm="{realm}",service="strict-registry",scope="repository:team/app:pull"'


@pytest.mark.parametrize("realm", HOSTILE)
async def test_a_realm_that_nobody_trusts_gets_no_request(
    node: NodeClient, upstream: ScriptedRegistry, world: World, realm: str
) -> None:
    canary = str(world.canary_port)
    upstream.script(on(kind="manifest"), Challenge((bearer(realm.replace("{canary}", canary)),)))
    got = await node.get(manifest())
    assert got.status in {403, 503}
    assert "token server" in got.reason
    assert upstream.record.tokens == ()
    assert world.lookups in ([], ["registry.example"])
    world.assert_untouched()


@pytest.mark.parametrize("realm", [realm for realm in HOSTILE if realm.startswith("http") and realm.isascii()][::5])
async def test_a_token_server_that_redirects_is_not_followed(
    node: NodeClient, upstream: ScriptedRegistry, world: World, realm: str
) -> None:
    upstream.script(on(kind="token"), Redirect(realm.replace("{canary}", str(world.canary_port))))
    got = await node.get(manifest())
    assert (got.status, got.code) == (503, "UNAVAILABLE")
    assert {entry.credential for entry in upstream.record.tokens} == {"basic robot"}
    world.assert_untouched()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_whatever_the_status_of_the_redirect(
    node: NodeClient, upstream: ScriptedRegistry, world: World, status: int
) -> None:
    upstream.script(on(kind="token"), Redirect("https://evil.example/token", status))
    assert (await node.get(manifest())).status == 503
    world.assert_untouched()


@pytest.mark.parametrize(
    "lines",
    [
        (bearer("https://evil.example/token"), bearer("https://registry.example/token")),
        (bearer("https://registry.example/token"), bearer("https://evil.example/token")),
        (bearer("https://evil.example/token") + ", " + bearer("https://registry.example/token"),),
        ('Basic realm="x", ' + bearer("https://evil.example/token"),),
        ('Negotiate abc, Bearer realm="https://registry.example/token",realm="https://evil.example/token"',),
        ('Bearer realm="https://evil.example/token",realm="https://registry.example/token"',),
        ('Bearer realm="https://registry.example/token" realm="https://evil.example/token"',),
        ('Bearer realm=https://evil.example/token, Basic realm="https://registry.example/token"',),
    ],
)
async def test_two_challenges_or_two_realms_do_not_sum_up_to_trust(
    node: NodeClient, upstream: ScriptedRegistry, world: World, lines: tuple[str, ...]
) -> None:
    upstream.script(on(kind="manifest").times(1), Challenge(lines))
    got = await node.get(manifest())
    assert got.status in {200, 403}
    assert all(entry.credential == "basic robot" for entry in upstream.record.tokens)
    world.assert_untouched()


async def test_a_challenge_after_a_dead_token_is_judged_as_the_first_was(
    node: NodeClient, upstream: ScriptedRegistry, world: World
) -> None:
    assert (await node.get(manifest())).status == 200
    upstream.revoke_tokens()
    upstream.script(on(kind="manifest"), Challenge((bearer("https://evil.example/token"),)))
    assert (await node.get(manifest())).status == 403
    world.assert_untouched()


async def test_a_realm_that_was_refused_once_is_refused_again(
    node: NodeClient, upstream: ScriptedRegistry, world: World
) -> None:
    upstream.script(on(kind="manifest"), Challenge((bearer("https://evil.example/token"),)))
    for _ in range(3):
        got = await node.get(manifest())
        assert (got.status, got.code) == (403, "DENIED")
        assert 'set hosts."registry.example".realms: [https://evil.example]' in got.reason
    world.assert_untouched()


@pytest.mark.parametrize("status", [401, 403, 400, 407, 404, 500, 302])
async def test_a_challenge_that_comes_with_any_status_is_judged(
    node: NodeClient, upstream: ScriptedRegistry, world: World, status: int
) -> None:
    upstream.script(on(kind="manifest"), Challenge((bearer("https://evil.example/token"),), status))
    assert (await node.get(manifest())).status >= 400
    world.assert_untouched()


async def test_the_password_goes_to_the_trusted_realm_alone(
    node: NodeClient, upstream: ScriptedRegistry, world: World
) -> None:
    """The table above would also pass if nothing worked at all."""
    assert (await node.get(manifest())).status == 200
    assert [entry.credential for entry in upstream.record.tokens] == ["basic robot"]
    assert PASSWORD not in str(upstream.record.all())
    world.assert_untouched()


async def test_a_challenge_of_an_object_store_is_none(registry: ScriptedRegistry, image: Image) -> None:
    """Who never saw our credential has no say in where it goes."""
    async with Canary() as store, started(settings([registry.url], login=LOGIN)) as proxy:
        registry.script(on(kind="blob").with_header("Authorization"), Redirect(f"{store.url}/object"))
        store.script(on(), Challenge((bearer(f"{store.url}/token"), bearer(f"{registry.url}/token"))))
        assert (await proxy.node.get(blob(layer_of(image)[0]))).status in {403, 503}
        assert {entry.credential for entry in store.record.all()} == {"anonymous"}
        assert "/token" not in {entry.path for entry in store.record.all()}
    assert [entry.credential for entry in registry.record.tokens] == ["basic robot"]


async def test_a_realm_listed_for_one_host_is_not_listed_for_another(
    registry: ScriptedRegistry, plain: ScriptedRegistry
) -> None:
    plain.script(on(kind="manifest"), Challenge((bearer(f"{registry.url}/token"),)))
    hosts = {
        authority(registry.url): {"credentials": LOGIN, "realms": [registry.url]},
        authority(plain.url): {"credentials": OTHER_LOGIN},
    }
    async with started({**settings([plain.url]), "hosts": hosts}) as proxy:
        got = await proxy.node.get(manifest())
        assert (got.status, got.code) == (403, "DENIED")
    assert registry.record.all() == ()
