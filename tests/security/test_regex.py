"""Rewrite rules that would keep a backtracking engine busy for longer than the universe lasts."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.errors import ConfigError
from proxy.config.load import parse_config
from proxy.rules.patterns import covers_repository
from tests.fakes.proxy import LOGIN, REG, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

LONGEST = "a" * 255
HOSTILE = (
    "^(a+)+$",
    "^(a|aa)+b$",
    "^(a|a)*b$",
    "^(.*)*b$",
    "^(.*a){20}b$",
    "^([a-z]+)*[0-9]$",
    "^(a?){100}a{100}b$",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "^((a+)+)+b$",
    "(.+)+/(.+)+/(.+)+x$",
)
REFUSED = ("(?=a)b", r"(a)\1", "(?<!a)b", "((a{0,1000}){0,1000}){0,1000}", "a{1001}", "(?P<n>a)(?P=n)", "(" * 2000, "[")


@pytest.mark.parametrize("pattern", HOSTILE)
async def test_every_rule_ends_on_the_longest_name(plain: ScriptedRegistry, pattern: str) -> None:
    """Forty hostile rules of one kind and a name of 255 characters: the answer comes within the usual budget."""
    rules = [{"pattern": pattern, "replacement": "$0"}] * 40
    configured = settings([]) | {"registries": {REG: {"endpoints": [plain.url], "rewrites": rules}}}
    async with started(configured) as proxy:
        got = await proxy.node.get(manifest(name=LONGEST))
    assert (got.status, got.code) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("pattern", REFUSED, ids=range(len(REFUSED)))
def test_what_no_linear_engine_can_do_is_refused_when_it_is_read(pattern: str) -> None:
    text = f"version: 1\nregistries: {{r.example: {{rewrites: [{{pattern: '{pattern}', replacement: x}}]}}}}\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yaml")
    (problem,) = caught.value.problems
    assert "pattern" in str(problem)


@pytest.mark.parametrize(
    "replacement", ["$0?scope=x", "$0#x", "$0 x", "$0%2e%2e/x", "$0\\x", "$0@evil.example", "$0;x"]
)
async def test_a_rule_that_makes_more_than_a_name_reaches_no_upstream(
    plain: ScriptedRegistry, replacement: str
) -> None:
    rules = [{"pattern": "^a+$", "replacement": replacement}]
    configured = settings([]) | {"registries": {REG: {"endpoints": [plain.url], "rewrites": rules}}}
    async with started(configured) as proxy:
        got = await proxy.node.get(manifest(name="aaa"))
    assert (got.status, got.code) == (403, "DENIED")
    assert "the rewrite rule at" in got.reason
    assert plain.record.all() == ()


@pytest.mark.parametrize("replacement", ["../$0", "$0/../../evil", "/$0", "./$0/.", "$0//x"])
async def test_dots_of_a_rule_are_resolved_before_the_scope_is_computed(
    registry: ScriptedRegistry, replacement: str
) -> None:
    """Requests to the token server and to the registry name one and the same repository."""
    rules = [{"pattern": "^a+$", "replacement": replacement}]
    configured = settings([], login=LOGIN) | {"registries": {REG: {"endpoints": [registry.url], "rewrites": rules}}}
    async with started(configured) as proxy:
        await proxy.node.get(manifest(name="aaa"))
    (request,) = registry.record.of("manifest")
    assert not {".", "..", ""} & set(request.repository.split("/"))
    assert registry.record.scopes == {f"repository:{request.repository}:pull"}


WILDCARDS = ("**" * 40 + "x", "/**" * 100 + "x", "*a" * 100 + "x", "**a*" * 60 + "/x")


@pytest.mark.parametrize("pattern", WILDCARDS, ids=range(len(WILDCARDS)))
def test_a_pattern_of_many_wildcards_ends(pattern: str) -> None:
    """`/status/images?pattern=` takes patterns from whoever reaches the admin port, and a match stops everything."""
    code = "import sys; from proxy.rules.patterns import *; print(covers_repository(sys.argv[1], 'a' * 200 + '/b'))"
    try:
        ran = subprocess.run([sys.executable, "-c", code, pattern], capture_output=True, timeout=30, check=True)
    except subprocess.TimeoutExpired:
        pytest.fail("it did not end within 30 s")
    assert ran.stdout == b"False\n"


def reference(pattern: str, name: str) -> bool:
    """What a pattern means, one wildcard at a time."""
    if not pattern:
        return not name
    if pattern.startswith("/**"):
        rest = pattern[3:]
        return reference(rest, name) or (name.startswith("/") and reference("**" + rest, name[1:]))
    if pattern.startswith("**"):
        return any(reference(pattern[2:], name[start:]) for start in range(len(name) + 1))
    if pattern.startswith("*"):
        first = name.partition("/")[0]
        return any(reference(pattern[1:], name[start:]) for start in range(len(first) + 1))
    return name[:1] == pattern[0] and reference(pattern[1:], name[1:])


pieces = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "/**"]), max_size=7)


@given(pieces.map("".join), st.text("ab/", max_size=7))
def test_patterns_with_few_and_many_wildcards_mean_the_same(pattern: str, name: str) -> None:
    assert covers_repository(pattern, name) == reference(pattern, name)
