import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from proxy.auth.outward.broker import Broker, NoLogin, Requester
from proxy.auth.outward.exchange import TokenRefused
from proxy.auth.outward.realm import RealmRefused
from proxy.config.address import Origin
from proxy.config.model import Host
from proxy.oci.challenge import BASIC, BEARER, Challenge
from proxy.oci.login import ANONYMOUS, Login, LoginKind
from proxy.oci.scope import Scope
from proxy.testbed.images import make_image
from proxy.testbed.tokens import Account, Rules
from proxy.transport.singleflight import Background
from tests.fakes.proxy import metric
from tests.fakes.registry import ScriptedRegistry
from tests.unit.auth.support import REFRESH, REPOSITORY, ROBOT, SCOPE, Clock
from tests.unit.transport.support import sessions

ACCOUNT = Account("robot", "s3cret", identity_token="s3cret-refresh")
OTHER = "team/other"
STRICT = Rules(accounts=(ACCOUNT,))


@asynccontextmanager
async def made(
    rules: Rules = STRICT, settings: str = "", clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[Broker, ScriptedRegistry]]:
    """A broker, and a strict registry with two repositories."""
    background = Background()
    images = [make_image(name, "1") for name in (REPOSITORY, OTHER)]
    async with ScriptedRegistry(images, rules) as registry, sessions(settings) as opened:
        yield Broker(opened, background, clock), registry
        await background.close()


def asker(
    registry: ScriptedRegistry,
    login: Login = ROBOT,
    repository: str = REPOSITORY,
    mode: str = "computed",
    settings: Mapping[str, object] | None = None,
) -> Requester:
    return Requester(
        origin=Origin.parse(registry.url),
        repository=repository,
        settings=Host.model_validate(settings or {}),
        upstream="upstream",
        login=login,
        identity=login.identity,
        scope="challenge" if mode == "challenge" else "computed",
    )


def challenge(registry: ScriptedRegistry, scope: str | None = SCOPE, **parameters: str) -> Challenge:
    named = {"realm": registry.realm, "service": "strict-registry"} | ({"scope": scope} if scope else {})
    return Challenge(BEARER, named | parameters)


@pytest.mark.parametrize(
    "challenged",
    [
        SCOPE,
        None,
        "repository:something/else:pull",
        f"{SCOPE} repository:team/other:pull",
        "repository:team/app:pull,push,delete",
        "registry:catalog:*",
        "repository:user/image:pull",
        "nonsense",
    ],
)
async def test_whatever_the_challenge_names_one_scope_is_requested(challenged: str | None) -> None:
    async with made() as (broker, registry):
        authorization = await broker.authorization_for(asker(registry), challenge(registry, challenged))
        assert authorization.header.startswith("Bearer ")
        assert [entry.scope_parameters for entry in registry.record.tokens] == [(SCOPE,)]
        assert "Bearer" not in repr(authorization)


async def test_challenge_mode_takes_the_name_from_the_challenge_and_only_pull() -> None:
    async with made() as (broker, registry):
        asking = asker(registry, repository="virtual/app", mode="challenge")
        await broker.authorization_for(asking, challenge(registry, f"repository:{REPOSITORY}:pull,push"))
        assert registry.record.scopes == {SCOPE}


async def test_a_challenge_is_remembered_and_its_grant_used_again() -> None:
    async with made() as (broker, registry):
        assert await broker.known_authorization(asker(registry)) is None
        first = await broker.authorization_for(asker(registry), challenge(registry))
        assert await broker.known_authorization(asker(registry)) == first
        assert await broker.known_authorization(asker(registry, repository=OTHER)) is None
        assert len(registry.record.tokens) == 1


async def test_all_who_need_a_token_at_once_share_one_request() -> None:
    async with made() as (broker, registry):
        calls = (broker.authorization_for(asker(registry), challenge(registry)) for _ in range(30))
        assert len({authorization.header for authorization in await asyncio.gather(*calls)}) == 1
        assert len(registry.record.tokens) == 1


async def test_repositories_services_and_credentials_never_share_a_grant() -> None:
    async with made(Rules(accounts=(ACCOUNT, Account("second", "p")))) as (broker, registry):
        second = Login("second", LoginKind.PASSWORD, "second", "p")
        headers = [
            (await broker.authorization_for(asking, challenged)).header
            for asking, challenged in (
                (asker(registry), challenge(registry)),
                (asker(registry, second), challenge(registry)),
                (asker(registry, repository=OTHER), challenge(registry)),
                (asker(registry), challenge(registry, service="other")),
                (asker(registry), challenge(registry, realm=f"{registry.realm}?a=b")),
            )
        ]
        assert len(set(headers)) == 5
        assert len(registry.record.tokens) == 5


async def test_a_dropped_grant_is_requested_again_but_never_a_newer_one() -> None:
    async with made() as (broker, registry):
        old = await broker.authorization_for(asker(registry), challenge(registry))
        broker.drop(old)
        new = await broker.known_authorization(asker(registry))
        assert new is not None
        assert new.header != old.header
        broker.drop(old)
        assert await broker.known_authorization(asker(registry)) == new
        assert len(registry.record.tokens) == 2


async def test_a_grant_near_its_end_is_used_and_renewed_meanwhile() -> None:
    clock = Clock()
    async with made(clock=clock) as (broker, registry):
        first = await broker.authorization_for(asker(registry), challenge(registry))
        clock.now = first.expires_at - 1
        for _ in range(3):
            assert await broker.known_authorization(asker(registry)) == first
        async with asyncio.timeout(20):
            await registry.record.wait(2, "token")
        assert len(registry.record.tokens) == 2


@pytest.mark.parametrize(
    ("rules", "login", "method", "requests"),
    [
        (STRICT, ROBOT, "auto", ["GET"]),
        (STRICT, ROBOT, "post", ["POST"]),
        (STRICT, REFRESH, "auto", ["POST"]),
        (STRICT, REFRESH, "get", ["POST"]),
        (Rules(), ANONYMOUS, "post", ["GET"]),
    ],
)
async def test_each_credential_has_its_method(rules: Rules, login: Login, method: str, requests: Sequence[str]) -> None:
    async with made(rules) as (broker, registry):
        await broker.authorization_for(asker(registry, login, settings={"tokenMethod": method}), challenge(registry))
        assert [entry.method for entry in registry.record.tokens] == requests


async def test_a_refused_credential_is_reported_as_what_get_said() -> None:
    async with made(replace(STRICT, post=False)) as (broker, registry):
        wrong = Login("robot", LoginKind.PASSWORD, "robot", "wrong")
        with pytest.raises(TokenRefused) as caught:
            await broker.authorization_for(asker(registry, wrong), challenge(registry))
        assert [entry.method for entry in registry.record.tokens] == ["GET"]
        assert caught.value.status == registry.record.tokens[0].status
        assert await broker.known_authorization(asker(registry, wrong)) is None


async def test_a_refusal_is_not_requested_again_by_the_next_node() -> None:
    async with made(STRICT) as (broker, registry):
        wrong = Login("robot", LoginKind.PASSWORD, "robot", "wrong")
        labels = {"upstream": "upstream", "result": "denied"}
        denied = metric("scope_proxy_token_requests_total", **labels)
        for _ in range(10):
            with pytest.raises(TokenRefused):
                await broker.authorization_for(asker(registry, wrong), challenge(registry))
        assert len(registry.record.tokens) == 1
        assert metric("scope_proxy_token_requests_total", **labels) - denied == 10
        await broker.authorization_for(asker(registry, ROBOT), challenge(registry))  # another password is tried at once
        assert [entry.status for entry in registry.record.tokens][1:] == [200]


async def test_basic_is_answered_with_the_password_and_needs_one() -> None:
    async with made() as (broker, registry):
        basic = Challenge(BASIC, {"realm": "r"})
        authorization = await broker.authorization_for(asker(registry), basic)
        assert (authorization.header, authorization.key) == ("Basic cm9ib3Q6czNjcmV0", None)
        broker.drop(authorization)
        assert await broker.known_authorization(asker(registry)) == authorization
        for login in (ANONYMOUS, REFRESH):
            with pytest.raises(NoLogin, match=r"set hosts\..*\.credentials"):
                await broker.authorization_for(asker(registry, login), basic)
        assert registry.record.tokens == ()


async def test_basic_can_be_configured_so_that_nothing_is_requested_first() -> None:
    async with made() as (broker, registry):
        settings = {"tokenMethod": "basic"}
        authorization = await broker.known_authorization(asker(registry, settings=settings))
        assert authorization is not None
        assert authorization.header == "Basic cm9ib3Q6czNjcmV0"
        assert await broker.known_authorization(asker(registry, ANONYMOUS, settings=settings)) is None


async def test_a_realm_that_is_not_trusted_gets_no_request_whenever_it_is_named() -> None:
    async with made() as (broker, registry), ScriptedRegistry() as evil:
        for _ in range(2):
            with pytest.raises(RealmRefused):
                await broker.authorization_for(asker(registry), challenge(registry, realm=f"{evil.url}/token"))
            assert await broker.known_authorization(asker(registry)) is None
        assert (evil.record.all(), registry.record.all()) == ((), ())


async def test_a_listed_realm_gets_the_request() -> None:
    async with (
        ScriptedRegistry([make_image(REPOSITORY, "1")], STRICT) as issuer,
        made(settings=f'hosts: {{"*": {{realms: ["{issuer.url}"]}}}}') as (broker, registry),
    ):
        asking = asker(registry, settings={"realms": [issuer.url]})
        await broker.authorization_for(asking, challenge(registry, realm=issuer.realm))
        assert issuer.record.scopes == {str(Scope.pull(REPOSITORY))}
        assert registry.record.tokens == ()
