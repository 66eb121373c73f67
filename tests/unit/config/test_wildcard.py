import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.patterns import covers

NAMES = st.text(alphabet="ab.*", max_size=12)


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
    ],
)
def test_only_the_star_has_a_meaning(pattern: str, name: str, *, expected: bool) -> None:
    assert covers(pattern, name) is expected


@given(NAMES, NAMES)
def test_it_is_what_a_regular_expression_of_the_same_meaning_says(pattern: str, name: str) -> None:
    same = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    assert covers(pattern, name) is (same.fullmatch(name) is not None)


def test_a_name_that_nearly_fits_many_stars_is_no_work() -> None:
    assert not covers("*a" * 100 + "b", "a" * 100_000)
