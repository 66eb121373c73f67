"""Credentials: which one is tried, how it is displayed, and which servers get it."""

import json
from pathlib import Path

import pytest

from proxy.testbed.images import Image
from proxy.testbed.tokens import Account, Rules
from tests.fakes.canaries import IDENTITY_TOKEN, OTHER_PASSWORD, PASSWORD, basic
from tests.fakes.changes import Challenge, Reply
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import ACCOUNT, LOGIN, OTHER_LOGIN, SCOPE, UPSTREAM, USER, authority, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

OTHER = Account("other", OTHER_PASSWORD, repositories=("team/elsewhere",))


async def pulls(node: NodeClient, image: Image) -> None:
    """Two requests that both succeed."""
    assert (await node.head(manifest())).status == 200
    assert (await node.get(manifest())).body == image.manifest


def credentials(registry: ScriptedRegistry) -> list[str]:
    return [entry.credential for entry in registry.record.tokens]


@pytest.mark.parametrize("refuse", [401, 403, 404])
async def test_the_next_credential_is_tried_and_remembered(image: Image, refuse: int) -> None:
    logins = [{**OTHER_LOGIN, "repositories": "team/**"}, LOGIN]
    async with (
        ScriptedRegistry([image], Rules(refuse=refuse, accounts=(OTHER, ACCOUNT))) as registry,
        started(settings([registry.url], login=logins)) as proxy,
    ):
        await pulls(proxy.node, image)
        assert credentials(registry)[-1] == "basic robot"
        tried = len(credentials(registry))
        await pulls(proxy.node, image)
        assert len(credentials(registry)) == tried  # what worked goes first now


async def test_the_next_credential_is_tried_when_the_registry_itself_refuses(image: Image) -> None:
    """The token server grants empty access, the registry then answers 403."""
    logins = [{**OTHER_LOGIN, "repositories": "team/**"}, LOGIN]
    async with (
        ScriptedRegistry([image], Rules(refuse=None, accounts=(OTHER, ACCOUNT))) as registry,
        started(settings([registry.url], login=logins)) as proxy,
    ):
        await pulls(proxy.node, image)
        assert credentials(registry) == ["basic other", "basic robot"]


async def test_refused_credentials_are_403_and_say_whose(image: Image) -> None:
    async with (
        ScriptedRegistry([image], Rules(refuse=403, accounts=(OTHER,))) as registry,
        started(settings([registry.url], login=OTHER_LOGIN)) as proxy,
    ):
        for got in (await proxy.node.head(manifest()), await proxy.node.get(manifest())):
            assert got.status == 403
            assert (
                f"token server {authority(registry.url)} answered 403 for {SCOPE} with the configured credentials"
                in got.reason
            )


async def test_without_credentials_a_closed_registry_is_403(registry: ScriptedRegistry) -> None:
    async with started(settings([registry.url])) as proxy:
        got = await proxy.node.get(manifest())
    assert (got.status, got.code) == (403, "DENIED")
    assert "without credentials" in got.reason
    assert got.error["detail"]["scope"] == SCOPE


async def test_an_identity_token_is_posted_as_refresh_token(registry: ScriptedRegistry, image: Image) -> None:
    async with started(settings([registry.url], login={"identityToken": IDENTITY_TOKEN})) as proxy:
        await pulls(proxy.node, image)
    (entry,) = registry.record.tokens
    assert (entry.method, entry.credential, entry.scope_parameters) == ("POST", "refresh-token", (SCOPE,))


@pytest.mark.parametrize(("method", "verb"), [("get", "GET"), ("post", "POST"), ("auto", "GET")])
async def test_the_token_method(registry: ScriptedRegistry, image: Image, method: str, verb: str) -> None:
    async with started(settings([registry.url], login=LOGIN, host={"tokenMethod": method})) as proxy:
        await pulls(proxy.node, image)
    assert [entry.method for entry in registry.record.tokens] == [verb]
    assert registry.record.tokens[0].scope_parameters == (SCOPE,)


@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_auto_learns_that_only_post_works(registry: ScriptedRegistry, image: Image, status: int) -> None:
    registry.script(on("GET", "token"), Reply(status))
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        await pulls(proxy.node, image)
        registry.revoke_tokens()
        await pulls(proxy.node, image)
    assert [entry.method for entry in registry.record.tokens] == ["GET", "POST", "POST"]


async def test_auto_stays_with_get_where_post_is_refused(image: Image) -> None:
    async with (
        ScriptedRegistry([image], Rules(accounts=(ACCOUNT,), post=False)) as registry,
        started(settings([registry.url], login=LOGIN)) as proxy,
    ):
        await pulls(proxy.node, image)
        assert [entry.method for entry in registry.record.tokens] == ["GET"]


async def test_a_password_that_get_and_post_refuse_is_reported_by_the_status_of_get(image: Image) -> None:
    async with (
        ScriptedRegistry([image], Rules(accounts=(ACCOUNT,), post=False)) as registry,
        started(settings([registry.url], login=OTHER_LOGIN)) as proxy,
    ):
        got = await proxy.node.get(manifest())
        assert got.status == 403
        assert "answered 401" in got.reason


@pytest.mark.parametrize("method", ["auto", "basic"])
async def test_a_registry_that_takes_only_basic(image: Image, method: str) -> None:
    async with (
        ScriptedRegistry([image], Rules(dialect="basic", accounts=(ACCOUNT,))) as registry,
        started(settings([registry.url], login=LOGIN, host={"tokenMethod": method})) as proxy,
    ):
        await pulls(proxy.node, image)
        used = [entry.credential for entry in registry.record.of("manifest")]
    assert used == [*(["anonymous"] if method == "auto" else []), "basic robot", "basic robot"]
    assert registry.record.tokens == ()


async def test_a_basic_registry_without_credentials_says_where_to_put_them(image: Image) -> None:
    async with (
        ScriptedRegistry([image], Rules(dialect="basic", accounts=(ACCOUNT,))) as registry,
        started(settings([registry.url])) as proxy,
    ):
        got = await proxy.node.get(manifest())
        assert got.status == 403
        assert f'set hosts."{authority(registry.url)}".credentials' in got.reason


async def test_a_realm_elsewhere_is_refused_with_the_line_that_trusts_it(image: Image) -> None:
    async with ScriptedRegistry([image], Rules(accounts=(ACCOUNT,))) as tokens:
        rules = Rules(accounts=(ACCOUNT,), realm=f"{tokens.url}/token")
        async with ScriptedRegistry([image], rules, issuer=tokens.issuer) as registry:
            host = authority(registry.url)
            async with started(settings([registry.url], login=LOGIN)) as proxy:
                got = await proxy.node.get(manifest())
            assert (got.status, got.code) == (403, "DENIED")
            assert f'set hosts."{host}".realms: [{tokens.url}]' in got.error["message"]
            assert tokens.record.all() == ()

            trusted = settings([registry.url], login=LOGIN, host={"realms": [tokens.url]})
            async with started(trusted) as proxy:
                await pulls(proxy.node, image)
            assert (credentials(registry), credentials(tokens)) == ([], ["basic robot"])


@pytest.mark.parametrize(
    "realm",
    ["http://169.254.169.254/token", "http://user:pw@127.0.0.1/token", "ftp://127.0.0.1/token", "http://[bad/token"],
)
async def test_realms_that_nobody_should_go_to_are_refused(
    node: NodeClient, registry: ScriptedRegistry, realm: str
) -> None:
    registry.script(on(kind="manifest"), Challenge((f'Bearer realm="{realm}",service="x"',)))
    got = await node.get(manifest())
    assert got.status == 403
    assert "pw" not in got.reason
    assert registry.record.tokens == ()


@pytest.mark.parametrize(
    "lines",
    [
        ('Bearer realm="{realm}",service="strict-registry"',),
        ('Bearer realm="{realm}",service="strict-registry",scope="repository:library/app:pull,push"',),
        ('Bearer realm="{realm}",service="strict-registry",scope="repository:user/image:pull registry:catalog:*"',),
        ('Basic realm="a, b"', 'Bearer realm="{realm}",service="strict-registry"'),
        ('Negotiate, Basic realm="x", Bearer realm="{realm}", service="strict-registry"',),
        ('bearer REALM="{realm}",Service=strict-registry,scope="',),
        ('Bearer realm="/token",service="strict-registry"',),
    ],
)
async def test_whatever_the_challenge_says_one_computed_scope_is_requested(
    node: NodeClient, registry: ScriptedRegistry, image: Image, lines: tuple[str, ...]
) -> None:
    written = tuple(line.replace("{realm}", registry.realm) for line in lines)
    registry.script(on(kind="manifest").nth(1), Challenge(written))
    assert (await node.get(manifest())).body == image.manifest
    assert [entry.scope_parameters for entry in registry.record.tokens] == [(SCOPE,)]


async def test_a_docker_config_file_is_read_again_when_it_changes(
    registry: ScriptedRegistry, image: Image, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    host = authority(registry.url)
    path.write_text(json.dumps({"auths": {f"{host}/team": {"auth": basic("other", OTHER_PASSWORD)}}}))
    async with started(settings([registry.url], dockerConfigFiles=[str(path)])) as proxy:
        assert (await proxy.node.get(manifest())).status == 403
        path.write_text(json.dumps({"auths": {f"https://{host}": {"username": USER, "password": PASSWORD}}}))
        await pulls(proxy.node, image)


async def test_a_missing_secret_file_is_503_and_named(registry: ScriptedRegistry, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    login = {"username": USER, "passwordFile": str(path)}
    async with started(settings([registry.url], login=login)) as proxy:
        path.unlink()
        got = await proxy.node.get(manifest())
    assert (got.status, got.code) == (503, "UNAVAILABLE")
    assert str(path) in got.error["message"]


HELPER = """#!/bin/sh
read -r server
echo "$1 $server" >> "$0.calls"
test "$server" = "{host}" || {{ echo "credentials not found in native keychain"; exit 1; }}
printf '{{"ServerURL":"%s","Username":"{user}","Secret":"{secret}"}}' "$server"
"""


def calls_of(program: Path) -> list[str]:
    return Path(f"{program}.calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("user", "secret", "expected"),
    [(USER, PASSWORD, "basic robot"), ("<token>", IDENTITY_TOKEN, "refresh-token")],
)
async def test_a_credential_helper(
    registry: ScriptedRegistry,
    image: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    secret: str,
    expected: str,
) -> None:
    program = tmp_path / "docker-credential-test"
    program.write_text(HELPER.format(host=authority(registry.url), user=user, secret=secret))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    async with started(settings([registry.url], login={"helper": "test"})) as proxy:
        await pulls(proxy.node, image)
        registry.revoke_tokens()
        await pulls(proxy.node, image)
    assert credentials(registry) == [expected, expected]
    assert calls_of(program) == [f"get {authority(registry.url)}"]  # remembered for a minute


@pytest.mark.parametrize("script", ["exit 3", "echo no json", "echo '{}'"])
async def test_a_broken_helper_is_503_and_named(
    registry: ScriptedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    program = tmp_path / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    async with started(settings([registry.url], login={"helper": "test"})) as proxy:
        got = await proxy.node.get(manifest())
    assert (got.status, "docker-credential-test" in got.reason) == (503, True)
    assert registry.record.tokens == ()


async def test_scope_challenge_takes_the_one_repository_of_the_challenge(image: Image) -> None:
    """A registry with virtual paths: the repository of its scopes is not the one in its URLs."""
    async with ScriptedRegistry([image], Rules(accounts=(ACCOUNT,))) as registry:
        configuration = settings([registry.url], login=LOGIN)
        endpoint = {"url": registry.url, "scope": "challenge"}
        configuration["registries"]["reg.example"]["endpoints"] = [endpoint]
        scope = "repository:virtual/app:pull,push registry:catalog:*"
        line = f'Bearer realm="{registry.realm}",service="strict-registry",scope="{scope}"'
        registry.library.repository("virtual/app")
        registry.script(on(kind="manifest").nth(1), Challenge((line,)))
        async with started(configuration) as proxy:
            assert (await proxy.node.get(manifest())).status == 403  # the fake judges by the URL's repository
        assert registry.record.tokens[0].scope_parameters == ("repository:virtual/app:pull",)
        assert UPSTREAM not in registry.record.tokens[0].scope_parameters[0]
