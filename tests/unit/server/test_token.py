"""The token endpoint: what clients get, what their tokens are bound to, and how they are sent here."""

import base64
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from proxy.auth.inward.sealed_tokens import Binding, KeyFile, Sealed, SealingKeys
from proxy.config.listener import Clients
from proxy.oci.challenge import parse_challenges
from proxy.oci.errors import Denied, NameInvalid, RegistryError, Unauthorized
from proxy.oci.login import ANONYMOUS, Login, LoginKind
from proxy.routing.table import RouteTable
from proxy.server.clients.token_endpoint import (
    BearerError,
    ClientTokenRequest,
    ParsedTokenRequest,
    TokenEndpoint,
    TokenResponseBody,
    binding,
)
from tests.unit.routing.support import table

KEY = "sealing-key-of-the-tests-0123456789"
NOW = 1_800_000_000.75
ROBOT = Login("robot", LoginKind.PASSWORD, "robot", "pw")
REGISTRIES = """
    docker.io: {}
    icr.io:
      endpoints: [https://mirror.example/v2/hub, https://second.example]
      rewrites: [{pattern: '^cpopen/(.+)$', replacement: 'prefix/$1'}]
    strict.example:
      rewrites: [{pattern: '^bad/.*$', replacement: 'NOT VALID'}]
"""
ANY = REGISTRIES + '    "*": {endpoints: [https://all.example]}'
CLIENTS = Clients.model_validate(
    {"auth": "upstream", "challenge": "bearer", "externalURL": "https://proxy:5000", "tokenKeyFile": "k"}
)


ROUTES, WITH_ANY = table(REGISTRIES), table(ANY)
WITH_DEFAULT = table(REGISTRIES, "defaultRegistry: docker.io")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(KEY)
    return KeyFile.open(path)


def endpoint(keys: KeyFile, routes: RouteTable = ROUTES) -> TokenEndpoint:
    return TokenEndpoint(routes, keys, CLIENTS, lambda: NOW)


def opened(answer: TokenResponseBody) -> Sealed:
    return SealingKeys((KEY,)).open(str(answer["token"]), NOW)


async def bound(realm: TokenEndpoint, service: str | None, *scopes: str) -> list[tuple[str, str]]:
    """What a token for these scopes is bound to."""
    payload = opened(await realm.issue(ParsedTokenRequest(ROBOT, service, scopes)))
    return [(item.registry, item.repository) for item in payload.bindings]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def outcomes() -> Mapping[str, float]:
    return {
        outcome: counted("scope_proxy_client_scopes_total", outcome=outcome)
        for outcome in ("kept", "merged", "dropped")
    }


async def test_an_answer_is_what_token_clients_read(keys: KeyFile) -> None:
    answer = await endpoint(keys).issue(ParsedTokenRequest(ROBOT, "docker.io", ("repository:library/alpine:pull",)))
    assert answer["token"] == answer["access_token"]
    assert (answer["expires_in"], answer["issued_at"]) == (12 * 3600, "2027-01-15T08:00:00Z")
    assert set(answer) == {"token", "access_token", "expires_in", "issued_at"}
    assert opened(answer) == Sealed(ROBOT, (Binding("docker.io", "library/alpine"),), int(NOW), int(NOW) + 12 * 3600)


@pytest.mark.parametrize(
    ("service", "name", "bound_to"),
    [
        ("docker.io", "library/alpine", ("docker.io", "library/alpine")),
        ("docker.io", "alpine", ("docker.io", "library/alpine")),
        ("icr.io", "cpopen/app", ("icr.io", "hub/prefix/app")),
        ("icr.io", "icr.io/cpopen/app", ("icr.io", "hub/prefix/app")),
        ("scope-proxy", "icr.io/cpopen/app", ("icr.io", "hub/prefix/app")),
        (None, "icr.io/cpopen/app", ("icr.io", "hub/prefix/app")),
        ("elsewhere.example", "icr.io/cpopen/app", ("icr.io", "hub/prefix/app")),
        ("scope-proxy", "team/app", ("docker.io", "team/app")),
        ("elsewhere.example", "team/app", ("docker.io", "team/app")),
    ],
)
async def test_the_service_or_the_name_says_which_registry(
    keys: KeyFile, service: str | None, name: str, bound_to: tuple[str, str]
) -> None:
    realm = endpoint(keys, WITH_DEFAULT)
    assert await bound(realm, service, f"repository:{name}:pull") == [bound_to]


async def test_any_service_falls_under_the_wildcard_but_our_own_does_not(keys: KeyFile) -> None:
    realm = endpoint(keys, WITH_ANY)
    assert await bound(realm, "elsewhere.example", "repository:a/b:pull") == [("elsewhere.example", "a/b")]
    assert await bound(realm, "scope-proxy", "repository:a/b:pull") == []


async def test_the_two_scopes_of_an_unpatched_node_become_one(keys: KeyFile) -> None:
    before = outcomes()
    scopes = ["repository:prefix/app:pull", "repository:cpopen/app:pull"]
    assert await bound(endpoint(keys), "icr.io", *scopes) == [("icr.io", "hub/prefix/app")]
    assert await bound(endpoint(keys), "icr.io", " ".join(scopes)) == [("icr.io", "hub/prefix/app")]
    assert {key: value - before[key] for key, value in outcomes().items()} == {"kept": 2, "merged": 2, "dropped": 0}


async def test_what_maps_to_nothing_is_dropped_and_no_error(keys: KeyFile) -> None:
    before = outcomes()
    assert await bound(endpoint(keys), "scope-proxy", "repository:nobody/app:pull registry:catalog:*") == []
    assert await bound(endpoint(keys), "strict.example", "repository:bad/app:pull repository:good:pull") == [
        ("strict.example", "good")
    ]
    assert await bound(endpoint(keys), "docker.io", "repository:UPPER:pull", "repository:a:push") == []
    assert {key: value - before[key] for key, value in outcomes().items()} == {"kept": 1, "merged": 0, "dropped": 5}


async def test_a_login_without_scopes_gets_a_token_for_nothing(keys: KeyFile) -> None:
    answer = await endpoint(keys).issue(ParsedTokenRequest(ANONYMOUS, "scope-proxy", ()))
    assert opened(answer) == Sealed(ANONYMOUS, (), int(NOW), int(NOW) + 12 * 3600)


async def test_a_post_with_both_scopes_in_one_field(keys: KeyFile) -> None:
    fields = {
        "grant_type": "password",
        "username": "robot",
        "password": "pw",
        "service": "icr.io",
        "scope": "repository:cpopen/app:pull repository:prefix/app:pull",
    }
    issued = counted("scope_proxy_client_tokens_total", result="issued")
    request = ClientTokenRequest("POST", (), (), "application/x-www-form-urlencoded", urlencode(fields).encode())
    payload = opened(await endpoint(keys).respond(request))
    assert (payload.login, payload.bindings) == (ROBOT, (Binding("icr.io", "hub/prefix/app"),))
    assert counted("scope_proxy_client_tokens_total", result="issued") == issued + 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (ClientTokenRequest("GET", (), ("Bearer canary",)), Unauthorized),
        (ClientTokenRequest("GET", (), ("Basic canary!",)), NameInvalid),
        (ClientTokenRequest("POST", (), (), "application/json", b"{}"), NameInvalid),
    ],
)
async def test_what_is_refused_is_counted(
    keys: KeyFile, request_: ClientTokenRequest, error: type[RegistryError]
) -> None:
    refused = counted("scope_proxy_client_tokens_total", result="refused")
    with pytest.raises(error):
        await endpoint(keys).respond(request_)
    assert counted("scope_proxy_client_tokens_total", result="refused") == refused + 1


async def test_a_credential_that_fits_into_no_header_gets_advice(keys: KeyFile) -> None:
    secret = "".join(f"{number * number:x}" for number in range(3000))
    encoded = base64.b64encode(f"robot:{secret}".encode()).decode()
    with pytest.raises(Denied, match="challenge: basic") as refused:
        await endpoint(keys).respond(ClientTokenRequest("GET", (), (f"Basic {encoded[: 16 * 1000]}",)))
    assert refused.value.reason_phrase == refused.value.reason


def parameters(value: str) -> Mapping[str, str]:
    (challenge,) = parse_challenges([value])
    assert challenge.scheme == "bearer"
    return challenge.parameters


def test_a_pull_is_sent_to_our_realm_for_its_own_name(keys: KeyFile) -> None:
    assert endpoint(keys).challenge_for("cpopen/app", "icr.io") == (
        'Bearer realm="https://proxy:5000/token",service="icr.io",scope="repository:cpopen/app:pull"'
    )


def test_the_ping_is_sent_there_without_a_scope(keys: KeyFile) -> None:
    assert endpoint(keys).challenge_for("", None) == 'Bearer realm="https://proxy:5000/token",service="scope-proxy"'


def test_without_a_registry_the_name_goes_along_for_token_clients_that_take_it_from_the_challenge(
    keys: KeyFile,
) -> None:
    found = parameters(endpoint(keys).challenge_for("icr.io/cpopen/app", None, "insufficient_scope"))
    assert (found["service"], found["scope"]) == ("scope-proxy", "repository:icr.io/cpopen/app:pull")


@pytest.mark.parametrize("error", ["invalid_token", "insufficient_scope"])
def test_a_token_that_is_not_good_is_called_so(keys: KeyFile, error: BearerError) -> None:
    assert parameters(endpoint(keys).challenge_for("a", "docker.io", error))["error"] == error


@given(name=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30))
def test_no_name_breaks_out_of_the_challenge(keys: KeyFile, name: str) -> None:
    found = parameters(endpoint(keys).challenge_for(name, "docker.io"))
    assert {"realm", "service"} <= set(found) <= {"realm", "service", "scope"}
    assert found["realm"] == "https://proxy:5000/token"
    assert found.get("scope", f"repository:{name}:pull") == f"repository:{name}:pull"
    assert " " not in found.get("scope", "")


async def test_what_a_challenge_asks_for_is_what_the_pull_needs(keys: KeyFile) -> None:
    realm = endpoint(keys)
    for name, namespace in [("alpine", "docker.io"), ("icr.io/cpopen/app", None), ("icr.io/cpopen/app", "icr.io")]:
        route = ROUTES.resolve(name, namespace=namespace)
        found = parameters(realm.challenge_for(name, route.registry))
        payload = opened(await realm.issue(ParsedTokenRequest(ROBOT, found["service"], (found["scope"],))))
        assert payload.bindings == (binding(route),)


def test_without_an_external_address_there_is_no_realm(keys: KeyFile) -> None:
    with pytest.raises(ValueError, match="externalURL"):
        TokenEndpoint(ROUTES, keys, Clients())
