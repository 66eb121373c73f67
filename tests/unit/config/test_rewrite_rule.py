import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.rewrite_rule import MAX_LENGTH, RewriteRule, join_path

# Measured with Go's regexp package: pattern, replacement, repository, result of ReplaceAllString.
MEASURED = [
    ("(.*)", "dockerhub/$1", "library/alpine", "dockerhub/library/alpine"),
    ("^(.*)$", "p/$1x", "a/b", "p/"),
    ("^(.*)$", "p/${1}x", "a/b", "p/a/bx"),
    ("^(.*)$", "p/$$1", "a/b", "p/$1"),
    ("^(.*)$", "p/$2", "a/b", "p/"),
    ("^x$|^(a)/", "q$1/", "a/b", "qa/b"),
    ("(.*)/(.*)", "$2/$1", "a/b", "b/a"),
    ("a", "X", "banana", "bXnXnX"),
    ("^(.*)$", r"p/\1", "a/b", r"p/\1"),
    ("^(.*)$", "p/$1-x", "a", "p/a-x"),
    ("^(.*)$", "p/$1_x", "a", "p/"),
    ("^(?P<name>.*)$", "p/$name/${name}", "a", "p/a/a"),
    ("^(?<name>.*)$", "${name}", "a", "a"),
    ("^(.*)$", "$0/$", "a", "a/$"),
    ("^(.*)$", "${1/${", "a", "${1/${"),
    ("^(.*)$", "$01", "a", ""),
    ("cp/se-data-center-edge", "local/$1", "cp/se-data-center-edge/mini-test", "local//mini-test"),
    ("a*", "x", "baaac", "xbxcx"),
    ("|a", "x", "a", "xax"),
]


@pytest.mark.parametrize(("pattern", "replacement", "repository", "expected"), MEASURED)
def test_rule_replaces_as_go_does(pattern: str, replacement: str, repository: str, expected: str) -> None:
    assert RewriteRule.compile(pattern, replacement).apply(repository) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("local//mini-test", "local/mini-test"),
        ("/a/b/", "a/b"),
        ("a/./b", "a/b"),
        ("a/../b", "b"),
        ("../../etc", "etc"),
        ("", ""),
        ("//", ""),
    ],
)
def test_join_path_is_that_of_go(path: str, expected: str) -> None:
    assert join_path(path) == expected


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("(?=a)b", "look-ahead"),
        ("(?!a)b", "look-ahead"),
        ("(?<=a)b", "look-behind"),
        ("(?<!a)b", "look-behind"),
        (r"(a)\1", "back-reference"),
        (r"(?P<n>a)(?P=n)", "back-reference by name"),
        ("(?>a)", "atomic group"),
        ("a*+", "possessive"),
        (r"a\Z", r"\Z"),
        (r"\C", "any byte"),
        ("(a", "missing )"),
        ("(?P<n>a)(?P<n>b)", "is used twice"),
        ("(?P<é>a)", "letters, digits and underscores"),
        ("\ud800", "surrogate"),
        ("a" * (MAX_LENGTH + 1), "at most"),
    ],
)
def test_a_pattern_that_go_refuses_is_an_error_that_names_the_construct(pattern: str, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        RewriteRule.compile(pattern, "x")


@pytest.mark.parametrize(
    ("replacement", "prefix"), [("hmirror/$1", "hmirror/"), ("$1/a", ""), ("a$$b/$1", "a$b/"), ("plain", "plain")]
)
def test_literal_prefix_ends_before_the_first_group(replacement: str, prefix: str) -> None:
    assert RewriteRule.compile("(.*)", replacement).literal_prefix == prefix


def test_references_to_missing_groups_are_known() -> None:
    rule = RewriteRule.compile("^(.*)$", "$1/$2/$1x/${name}")
    assert [str(reference) for reference in rule.unknown_references] == ["$2", "$1x", "${name}"]


# Without \B, which Python (before 3.14) alone does not find in an empty text.
ATOMS = ["a", "b", "/", ".", "[a-z]", "[^/]+", "(a)", "(b*)", "(.*)", "(.+?)", "(?:a|b)", "(a|b)", "^", "$", r"\b"]
ATOMS += [r"\d", r"\w+", "a*", "b?", ".*?", "(|a)", "(a)|(b)", "()", "(?i:A)", "|", "a{1,2}", r"\.", "(?:)"]
PIECES = ["$1", "${1}", "$2", "$$", "$", "${", "}", "$0", "a", "/", "$1x", "${1}x", r"\1", "$01", "$1-x", "..", "//"]
TEXT = ["a", "b", "/", "ab", "library", "alpine", ".", "-", "1", "banana", "_"]


def texts(parts: list[str], size: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), max_size=size).map("".join)


def model(pattern: str, template: str, text: str) -> str:
    """What Go's documentation says, on Python's own engine: positions one by one, the template by one expression."""
    out, done, at = "", 0, 0
    compiled = re.compile(pattern, re.ASCII)
    while at <= len(text) and (match := compiled.search(text, at)):
        out += text[done : match.start()]
        if match.start() == 0 or match.end() > done:
            out += expanded(template, match)
        done = match.end()
        at = done if done > at else at + 1
    return out + text[done:]


def expanded(template: str, match: re.Match[str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found["braced"] or found["bare"]
        if name is None:
            return "$"
        is_number = re.fullmatch("0|[1-9][0-9]*", name) is not None and int(name) <= match.re.groups
        return (match[int(name)] or "") if is_number else ""

    return re.sub(r"\$(?:\$|\{(?P<braced>\w+)\}|(?P<bare>\w+))", value, template)


@given(texts(ATOMS, 5), texts(PIECES, 4), texts(TEXT, 6))
def test_rule_agrees_with_an_independent_model(pattern: str, template: str, text: str) -> None:
    assert RewriteRule.compile(pattern, template).apply(text) == model(pattern, template, text)


@given(st.text(max_size=40), st.text(max_size=40), st.text("abc/._-12", max_size=40))
def test_nothing_but_a_value_error_comes_of_any_rule(pattern: str, template: str, text: str) -> None:
    try:
        result = RewriteRule.compile(pattern, template).apply(text)
    except ValueError as error:
        result = str(error)
    assert isinstance(result, str)


@given(st.text("a./", max_size=20))
def test_join_path_never_escapes(path: str) -> None:
    segments = join_path(path).split("/")
    assert ".." not in segments
    assert join_path(join_path(path)) == join_path(path)
