"""What a client asks of our token endpoint, and the little that is left of it."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.scope import REPOSITORIES_LIMIT, Scope, inward_scopes
from proxy.rules.rewrite_rule import RewriteRule

NAMES = st.text(st.sampled_from("ab/:.-"), min_size=1, max_size=6)
SCOPES = st.builds(
    lambda kind, name, actions: f"{kind}:{name}:{','.join(actions)}",
    st.sampled_from(["repository", "registry", "repository(plugin)", ""]),
    NAMES,
    st.lists(st.sampled_from(["pull", "push", "delete", "*", "PULL", ""]), max_size=3),
)
TEXTS = st.lists(st.lists(SCOPES | st.text(max_size=20), max_size=4).map(" ".join), max_size=4)
RULES = st.lists(
    st.tuples(st.sampled_from(["(.*)", "^a/(.+)$", "a", "b$", "^(.)(.*)$"]), st.sampled_from(["x/$1", "$1", "", "y"])),
    max_size=3,
)


def rewriting(rules: list[tuple[str, str]], unknown: set[str]) -> Callable[[str], Scope | None]:
    """Maps as a registry with these rules does: the first one that changes the name wins."""
    compiled = [RewriteRule.compile(pattern, replacement) for pattern, replacement in rules]

    def resolve(name: str) -> Scope | None:
        changed = next((new for rule in compiled if (new := rule.apply(name)) != name), name)
        return None if not changed or name in unknown else Scope.pull(changed)

    return resolve


@given(TEXTS, RULES, st.sets(NAMES, max_size=3))
def test_only_pulls_of_mapped_repositories_come_out(
    texts: list[str], rules: list[tuple[str, str]], unknown: set[str]
) -> None:
    resolve = rewriting(rules, unknown)
    given_out: list[Scope] = []

    def watched(name: str) -> Scope | None:
        scope = resolve(name)
        given_out.extend([] if scope is None else [scope])
        return scope

    inward = inward_scopes(texts, watched)
    assert set(inward.kept) <= set(given_out)
    assert {(scope.type, scope.actions) for scope in inward.kept} <= {("repository", frozenset({"pull"}))}
    assert len(set(inward.kept)) == len(inward.kept) <= REPOSITORIES_LIMIT


@given(TEXTS)
def test_every_scope_is_counted_once(texts: list[str]) -> None:
    inward = inward_scopes(texts, lambda name: name)
    assert len(inward.kept) + inward.merged + inward.dropped == min(64, len(" ".join(texts).split()))


@given(TEXTS)
def test_repeated_parameters_and_one_with_spaces_are_the_same(texts: list[str]) -> None:
    assert inward_scopes(texts, lambda name: name) == inward_scopes([" ".join(texts)], lambda name: name)


def test_the_two_scopes_of_an_unpatched_node_become_one() -> None:
    resolve = rewriting([("^cpopen/(.+)$", "prefix/$1")], set())
    scopes = "repository:prefix/app:pull repository:cpopen/app:pull"
    inward = inward_scopes([scopes], resolve)
    assert (inward.kept, inward.merged, inward.dropped) == ((Scope.pull("prefix/app"),), 1, 0)
    assert inward_scopes(scopes.split(), resolve) == inward


@pytest.mark.parametrize("actions", ["pull", "push,pull", "pull,push,delete", "*", "*,push"])
def test_what_asks_for_pull_is_a_pull(actions: str) -> None:
    assert inward_scopes([f"repository:a:{actions}"], Scope.pull).kept == (Scope.pull("a"),)


@pytest.mark.parametrize(
    "scope",
    ["repository:a:push", "repository:a:", "repository:a:PULL", "registry:catalog:*", "repository(plugin):a:pull", "a"],
)
def test_what_does_not_ask_for_pull_is_dropped(scope: str) -> None:
    inward = inward_scopes([scope], Scope.pull)
    assert (inward.kept, inward.dropped) == ((), 1)


def test_what_maps_to_nothing_is_dropped() -> None:
    inward = inward_scopes(["repository:a:pull repository:b:pull"], rewriting([], {"a"}))
    assert (inward.kept, inward.dropped) == ((Scope.pull("b"),), 1)


def test_the_order_of_the_request_is_kept() -> None:
    names = [f"n{number}" for number in (3, 1, 2, 1, 3)]
    assert inward_scopes([f"repository:{name}:pull" for name in names], lambda name: name).kept == ("n3", "n1", "n2")


def test_no_more_than_16_repositories_are_kept() -> None:
    inward = inward_scopes((f"repository:n{number}:pull" for number in range(20)), lambda name: name)
    assert (len(inward.kept), inward.dropped) == (16, 4)


def test_no_more_than_64_scopes_are_looked_at() -> None:
    scopes: list[str] = []
    inward_scopes(["repository:a:pull " * 1000] * 3, scopes.append)
    assert len(scopes) == 64
