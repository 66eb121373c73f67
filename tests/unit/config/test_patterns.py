import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.patterns import covers, covers_repository

NAMES = st.text(alphabet="ab./*", max_size=12)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("*", "anything.at:all", True),
        ("a*", "a", True),
        ("*a", "ba", True),
        ("a*a", "a", False),
        ("a*b*c", "axxbxxc", True),
        ("a*b*c", "acb", False),
        ("*ab*ab*", "ab", False),
        ("", "", True),
        ("", "a", False),
        (".*", "ab", False),
        ("[ab]", "a", False),
        ("a?c", "abc", False),
        ("(a|b)", "b", False),
        ("node", "node\n", False),
        ("a/**", "a", False),
        ("*/b", "a/c/b", True),
    ],
)
def test_in_names_only_the_star_has_a_meaning(pattern: str, name: str, *, expected: bool) -> None:
    assert covers(pattern, name) is expected


@given(NAMES, NAMES)
def test_it_is_what_a_regular_expression_of_the_same_meaning_says(pattern: str, name: str) -> None:
    same = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    assert covers(pattern, name) is (same.fullmatch(name) is not None)


def test_a_name_that_nearly_fits_many_stars_is_no_work() -> None:
    assert not covers("*a" * 100 + "b", "a" * 100_000)


@pytest.mark.parametrize(
    ("pattern", "repository", "expected"),
    [
        ("**", "a/b", True),
        ("a/**", "a", True),
        ("a/**", "a/b/c", True),
        ("a/**", "ab", False),
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", False),
        ("*/b", "a/b", True),
        ("*", "a/b", False),
        ("a*", "abc", True),
        ("*a/**", "xa1a", True),
        ("a.b", "axb", False),
        ("a/**/z", "a/b/c/z", True),
        ("**a*b", "a/ab", True),
    ],
)
def test_in_repositories_one_star_is_a_segment_and_two_are_any_number(
    pattern: str, repository: str, *, expected: bool
) -> None:
    assert covers_repository(pattern, repository) is expected


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_pattern_raises(pattern: str, name: str) -> None:
    assert covers(pattern, name) in {True, False}
    assert covers_repository(pattern, name) in {True, False}
