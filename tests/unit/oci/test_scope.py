import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.scope import OutwardScope, Scope, outward_scope, parse_scopes

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
ACTIONS = st.frozensets(st.sampled_from(["pull", "push", "delete", "*", "catalog"]))
TYPES = st.sampled_from(["repository", "registry", "repository(plugin)"])
SCOPES = st.builds(Scope, TYPES, NAMES, ACTIONS)
CHALLENGED = st.text(max_size=80) | st.lists(SCOPES, max_size=4).map(lambda scopes: " ".join(map(str, scopes)))


@given(SCOPES)
def test_a_scope_survives_its_text(scope: Scope) -> None:
    assert Scope.parse(str(scope)) == scope
    assert parse_scopes(f"  {scope}   {scope} ") == (scope, scope)


@pytest.mark.parametrize(
    ("text", "name", "actions"),
    [
        ("repository:a/b:pull", "a/b", {"pull"}),
        ("repository:a:push,pull", "a", {"pull", "push"}),
        ("repository:host:5000/a:pull", "host:5000/a", {"pull"}),
        ("repository:a:", "a", set()),
        ("repository:a:*", "a", {"*"}),
    ],
)
def test_scopes_are_read(text: str, name: str, actions: set[str]) -> None:
    assert Scope.parse(text) == Scope("repository", name, frozenset(actions))


@pytest.mark.parametrize(
    "text", ["", "a", "a:b", ":a:pull", "repository::pull", "repository:a b:pull", "repository:a:PULL", "x" * 5000]
)
def test_what_is_no_scope_is_none(text: str) -> None:
    assert Scope.parse(text) is None


def test_the_order_of_actions_does_not_matter() -> None:
    assert str(Scope.parse("repository:a:push,pull")) == "repository:a:pull,push"


def test_at_most_64_scopes_are_read() -> None:
    assert len(parse_scopes("repository:a:pull " * 1000)) == 64


@given(CHALLENGED, NAMES)
def test_computed_mode_asks_for_exactly_the_upstream_repository(challenge: str, repository: str) -> None:
    outward = outward_scope(repository, parse_scopes(challenge))
    assert str(outward.requested) == f"repository:{repository}:pull"


@given(CHALLENGED, NAMES)
def test_challenge_mode_asks_for_one_repository_and_only_pull(challenge: str, repository: str) -> None:
    challenged = parse_scopes(challenge)
    outward = outward_scope(repository, challenged, from_challenge=True).requested
    assert (outward.type, outward.actions) == ("repository", frozenset({"pull"}))
    assert outward.name in {repository} | {scope.name for scope in challenged if scope.type == "repository"}


@given(CHALLENGED, NAMES, st.booleans())
def test_what_is_not_requested_is_reported(challenge: str, repository: str, mode: bool) -> None:
    challenged = parse_scopes(challenge)
    outward = outward_scope(repository, challenged, from_challenge=mode)
    assert outward.kept == (outward.requested in challenged)
    assert set(challenged) - {outward.requested} == set(outward.dropped)


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ("repository:virtual/a:pull", "virtual/a"),
        ("repository:virtual/a:pull,push", "virtual/a"),
        ("repository:virtual/a:pull repository:virtual/a:push", "virtual/a"),
        ("repository:virtual/a:pull repository:other:pull", "mine"),
        ("registry:catalog:*", "mine"),
        ("repository(plugin):virtual/a:pull", "mine"),
        ("repository:*:pull", "mine"),
        ("repository:virtual/a&scope=x:pull", "mine"),
        ("", "mine"),
    ],
)
def test_challenge_mode_takes_the_one_repository_that_is_named(challenge: str, expected: str) -> None:
    assert outward_scope("mine", parse_scopes(challenge), from_challenge=True).requested == Scope.pull(expected)


def test_a_fitting_challenge_leaves_nothing_out() -> None:
    scope = Scope.pull("a")
    assert outward_scope("a", (scope,)) == OutwardScope(scope, kept=True, dropped=())


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    scopes = parse_scopes(text)
    assert all(Scope.parse(str(scope)) == scope for scope in scopes)
