"""What an upstream writes into its challenge never becomes a second parameter, scope or action of a token request."""

import pytest

from tests.fakes.changes import Challenge
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import SCOPE, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

SERVICES = (
    "x&scope=repository:evil:push",
    "x&scope=repository:evil:*",
    "x%26scope=repository:evil:push",
    "x#&scope=repository:evil:push",
    "x?scope=repository:evil:push",
    "x;scope=repository:evil:push",
    "x scope=repository:evil:push",
    "x+&+scope=repository:evil:push",
    "x%0d%0aX-Evil: 1",
    'x\\"&scope=repository:evil:push',
    "x=y=z&account=admin",
    "\u00fc&scope=repository:evil:push",
    "../../admin",
    "x" * 4000,
)
SCOPES = (
    "repository:team/app:push",
    "repository:team/app:pull,push",
    "repository:team/app:*",
    "repository:team/app:delete",
    "repository:evil:pull",
    "repository:team/app:pull repository:evil:pull",
    "repository:team/app:pull&scope=repository:evil:push",
    "repository:team/app:pull%20repository:evil:push",
    "repository:*:*",
    "repository:*:pull",
    "repository:team/app/../evil:pull",
    "registry:catalog:*",
    "repository(plugin):team/app:pull",
    "",
    "x" * 7000,
    " ".join(["repository:evil:push"] * 300),
)
REALM_QUERIES = (
    "?scope=repository:evil:push",
    "?scope=repository:evil:push&scope=repository:other:push",
    "?%73cope=repository:evil:push",
    "?Scope=repository:evil:push",
    "?SCOPE=repository:evil:push&x=y",
    "?service=evil",
    "?a=b%26scope=repository:evil:push",
    "?a=b#&scope=repository:evil:push",
    "?a=b;scope=repository:evil:push",
    "?&&scope=repository:evil:push&",
)


async def token_parameters(node: NodeClient, registry: ScriptedRegistry, challenge: str) -> list[dict[str, list[str]]]:
    """The parameters of the token requests that a challenge leads to."""
    registry.script(on(kind="manifest").times(1), Challenge((challenge,)))
    assert (await node.get(manifest())).status == 200
    found = []
    for entry in registry.record.tokens:
        names = {name for name, _ in entry.query}
        found.append({name: [value for key, value in entry.query if key == name] for name in names})
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_stays_one_value(local: NodeClient, registry: ScriptedRegistry, service: str) -> None:
    challenge = f'Bearer realm="{registry.realm}",service="{service}",scope="{SCOPE}"'
    (parameters,) = await token_parameters(local, registry, challenge)
    assert parameters == {"scope": [SCOPE], "service": [service.replace('\\"', '"')]}


@pytest.mark.parametrize("scope", SCOPES)
async def test_one_computed_scope_is_asked_for(local: NodeClient, registry: ScriptedRegistry, scope: str) -> None:
    challenge = f'Bearer realm="{registry.realm}",service="s",scope="{scope}"'
    (parameters,) = await token_parameters(local, registry, challenge)
    assert parameters["scope"] == [SCOPE]
    assert parameters.keys() <= {"scope", "service"}


@pytest.mark.parametrize("query", REALM_QUERIES)
async def test_the_query_of_a_realm_adds_no_scope(local: NodeClient, registry: ScriptedRegistry, query: str) -> None:
    challenge = f'Bearer realm="{registry.realm}{query}",service="s"'
    (parameters,) = await token_parameters(local, registry, challenge)
    given = {name.lower(): values for name, values in parameters.items()}
    assert given.pop("scope") == [SCOPE]
    assert given.pop("service") == ["s"]
    assert len(parameters) == len(given) + 2


@pytest.mark.parametrize(
    "scope",
    [
        "repository:virtual/app:pull,push,delete",
        "repository:virtual/app:*",
        "repository:virtual/app:push",
        "repository:virtual/app:pull repository:other/app:pull",
        "registry:catalog:* repository:virtual/app:pull",
        "repository:virtual/app:pull&scope=repository:evil:push",
    ],
)
async def test_with_scope_challenge_it_is_one_name_and_pull(registry: ScriptedRegistry, scope: str) -> None:
    registry.script(on(kind="manifest"), Challenge((f'Bearer realm="{registry.realm}",service="s",scope="{scope}"',)))
    endpoint = {"url": registry.url, "scope": "challenge"}
    configured = settings([]) | {"registries": {"reg.example": {"endpoints": [endpoint]}}}
    async with started(configured) as proxy:
        await proxy.node.get(manifest())
    for entry in registry.record.tokens:
        (only,) = entry.scope_parameters
        assert only.endswith(":pull")
        assert only.count(" ") == 0
        assert only in {"repository:virtual/app:pull", "repository:library/app:pull"}
