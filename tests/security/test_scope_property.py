"""The property that the program is about, by random challenges, names and rules, through the running proxy."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.load import parse_config
from proxy.oci.scope import outward_scope, parse_scopes
from proxy.routing.table import RouteTable
from proxy.testbed.tokens import Rules
from tests.fakes import proxy as fakes
from tests.fakes.changes import Challenge
from tests.fakes.matching import on
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

TYPES = st.sampled_from(["repository", "registry", "repository(plugin)", "*", ""])
COMPONENTS = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
NAMES = st.lists(COMPONENTS, min_size=2, max_size=4).map("/".join)
ACTIONS = st.sampled_from(["pull", "push", "pull,push", "*", "delete", "", "pull,pull", "PULL"])
SCOPES = st.tuples(TYPES, NAMES | st.sampled_from(["*", "catalog", "..", "team/app"]), ACTIONS).map(":".join)
CHALLENGED = st.lists(SCOPES | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12), max_size=5)
PREFIXES = st.sampled_from(["", "team/", "a/b/", "virtual-docker/"])
RULES = st.lists(st.tuples(COMPONENTS, PREFIXES), max_size=4)


def expected(name: str, rules: list[tuple[str, str]]) -> str:
    """What the rules below make of a name, by plain text operations: the first that changes it wins."""
    for start, prefix in rules:
        if name.startswith(start):
            changed = prefix + name
            if changed != name:
                return changed
    return name


def configuration(rules: list[tuple[str, str]], url: str) -> str:
    """A configuration with these rules, as a file has it."""
    lines = [
        "version: 1",
        "registries:",
        "  reg.example:",
        f"    endpoints: ['{url}']",
        "    rewrites:",
        *(f"      - {{pattern: '^({start}.*)$', replacement: '{prefix}$1'}}" for start, prefix in rules),
    ]
    return "\n".join(lines if rules else lines[:-1]) + "\n"


@given(CHALLENGED, NAMES, RULES)
@settings(max_examples=60)
def test_for_any_rules_and_challenge_the_scope_is_pull_on_the_upstream_repository(
    challenged: list[str], name: str, rules: list[tuple[str, str]]
) -> None:
    loaded = parse_config(configuration(rules, "https://registry.example"), "test.yaml")
    route = RouteTable(loaded.config, loaded.positions).resolve(name, namespace="reg.example", host=None)
    (target,) = route.targets
    outward = outward_scope(target.repository, parse_scopes(" ".join(challenged))).requested
    assert str(outward) == f"repository:{expected(name, rules)}:pull"


@given(st.data())
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
async def test_what_reaches_the_token_server_is_within_that_one_scope(data: st.DataObject) -> None:
    """Eight pulls of different names for each set of rules, each with challenges of its own."""
    rules = data.draw(RULES)
    names = data.draw(st.lists(NAMES, min_size=8, max_size=8, unique=True))
    async with ScriptedRegistry([], Rules()) as registry:
        document = configuration(rules, registry.url) + "listeners: [{address: 127.0.0.1:0}]\n"
        configured = {**fakes.settings([]), "registries": _registries(document)}
        async with fakes.started(configured) as proxy:
            for name in names:
                scope = " ".join(data.draw(CHALLENGED)).replace('"', "'").replace("\\", "/")
                line = f'Bearer realm="{registry.realm}",service="s",scope="{scope}"'
                registry.script(on(kind="manifest"), Challenge((line,)))
                got = await proxy.node.get(fakes.manifest(name=name))
                assert got.status in {403, 404}
                scopes = [parameter for entry in registry.record.tokens for parameter in entry.scope_parameters]
                assert set(scopes) == {f"repository:{expected(name, rules)}:pull"}
                registry.record.clear()
                registry.behave()
    assert asyncio.get_running_loop().is_running()


def _registries(document: str) -> object:
    config = parse_config(document, "test.yaml").config
    return config.model_dump(mode="json", by_alias=True, exclude_unset=True)["registries"]
