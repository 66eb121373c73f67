import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.inverse import MAX_STEPS, Inverse
from proxy.rules.rewrite_rule import RewriteRule, join_path

NAME = st.from_regex(r"[ab]{1,2}(/[ab]{1,2}){0,3}", fullmatch=True)


def before(pattern: str, replacement: str, name: str) -> list[str]:
    """What the rule may have made the name of, as far as it really does."""
    rule = RewriteRule.compile(pattern, replacement)
    inverse = Inverse.of(rule)
    assert inverse is not None
    return [made for made in dict.fromkeys(inverse.candidates(name)) if join_path(rule.apply(made)) == name]


@pytest.mark.parametrize(
    ("pattern", "replacement", "name", "original"),
    [
        ("^cpopen/(.+)$", "local/$1", "local/a/b", "cpopen/a/b"),
        ("^cpopen/(.+)$", "/local//$1", "local/a/b", "cpopen/a/b"),
        ("^cpopen/(?P<rest>.+)$", "local/${rest}", "local/a", "cpopen/a"),
        (r"^ghcr\.io/(.*)$", "g/$1", "g/a", "ghcr.io/a"),
        ("^ghcr.io/(.*)$", "g/$1", "g/a", "ghcr.io/a"),
        ("^(.*)$", "hmirror/$1", "hmirror/a/b", "a/b"),
        ("(.*)", "hmirror/$1", "hmirror/a/b", "a/b"),
        ("^", "p/", "p/a", "a"),
        ("^.*$", "p/$0", "p/a/b", "a/b"),
        ("^team/", "t/", "t/a", "team/a"),
        ("team", "t", "a/t/b", "a/team/b"),
        ("^([^/]+)/(.+)$", "$2/$1", "b/c/a", "a/b/c"),
        ("^([a-z(]+[)]?)/(.+)$", "$2/$1", "b/a", "a/b"),
        ("^((a|b)/x)/(.+)$", "$1-$3", "a/x-c", "a/x/c"),
        ("^a/([]x]+)/(.+)$", "$2/$1", "b/x", "a/x/b"),
        (r"^a/([\])]+|y)$", "b/$1", "b/y", "a/y"),
        ("^x/(.+)$", "${1}/$1", "a/a", "x/a"),
        ("^old$", "new", "new", "old"),
    ],
)
def test_a_name_is_traced_back(pattern: str, replacement: str, name: str, original: str) -> None:
    assert original in before(pattern, replacement, name)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("^a/.+$", "all"),
        ("^a/[bc]/(.+)$", "x/$1"),
        ("^(a|b)/(.+)$", "x/$2"),
        ("^a|b/(.+)$", "x/$1"),
        ("^(?:a)/(.+)$", "x/$1"),
        ("(?i)^a/(.+)$", "x/$1"),
        ("^(a/)?(.+)$", "x/$2"),
        (r"^\d/(.+)$", "x/$1"),
        ("^ab?/(.+)$", "x/$1"),
        ("^((a)/b)/(.+)$", "$2/$3"),
    ],
)
def test_a_rule_that_loses_something_is_not_read_backwards(pattern: str, replacement: str) -> None:
    assert Inverse.of(RewriteRule.compile(pattern, replacement)) is None


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("^a/(.+)$", "b/$1"),
        ("^(.*)$", "b/$1"),
        ("(.*)", "b/$1"),
        ("^(.+)/(.+)$", "$2/x/$1"),
        ("^([^/]+)/([^/]+)$", "$1-$2"),
        ("^a", "bb"),
        ("^a/(.+)$", "$1"),
    ],
)
@given(name=NAME)
def test_whatever_a_rule_makes_is_traced_back(pattern: str, replacement: str, name: str) -> None:
    made = join_path(RewriteRule.compile(pattern, replacement).apply(name))
    if made != name:
        assert name in before(pattern, replacement, made)


def test_a_name_with_very_many_readings_is_given_up_on() -> None:
    inverse = Inverse.of(RewriteRule.compile("^(.*)/(.*)/(.*)/(.*)$", "$1/$2/$3/$4/end"))
    assert inverse is not None
    assert 0 < len(list(inverse.candidates("a/" * 120 + "end"))) <= MAX_STEPS
