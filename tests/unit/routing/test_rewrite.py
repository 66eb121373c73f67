import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.errors import Denied
from proxy.oci.reference import check_repository
from proxy.routing.rewrite import PlacedRule, RewriteRules
from proxy.rules.rewrite_rule import RewriteRule, join_path


def rules(*pairs: tuple[str, str], node_rewrites: bool = False) -> RewriteRules:
    placed = (PlacedRule(RewriteRule.compile(*pair), f"c.yaml:{line}:9") for line, pair in enumerate(pairs, 1))
    return RewriteRules(tuple(placed), node_rewrites)


def test_the_first_rule_that_changes_the_path_wins() -> None:
    ordered = rules(("^other/(.*)$", "x/$1"), ("^a$", "a"), ("^a", "first/a"), ("^a", "second/a"))
    rewriting = ordered.apply("a")
    assert rewriting.path == "first/a"
    assert rewriting.rule == ordered.rules[2]
    assert rewriting.note == "rewritten by ^a -> first/a (c.yaml:3:9)"


@pytest.mark.parametrize(
    ("made", "note"), [(rules(), "no rules"), (rules(("^x", "y")), "no rule changes the repository")]
)
def test_without_a_rule_that_fits_the_path_stays(made: RewriteRules, note: str) -> None:
    rewriting = made.apply("a/b")
    assert (rewriting.path, rewriting.rule, rewriting.note) == ("a/b", None, note)


def test_duplicate_slashes_collapse() -> None:
    assert rules(("^cp/app", "local/$1")).apply("cp/app/mini").path == "local/mini"


@pytest.mark.parametrize("repository", ["hmirror/library/alpine", "hmirror/x"])
def test_a_node_that_rewrites_is_left_alone(repository: str) -> None:
    made = rules(("(.*)", "hmirror/$1"), node_rewrites=True)
    rewriting = made.apply(repository)
    assert (rewriting.path, rewriting.rule) == (repository, None)
    assert rewriting.note == "already rewritten by the node as (.*) -> hmirror/$1 (c.yaml:1:9) would"


@pytest.mark.parametrize(("repository", "path"), [("a", "hmirror/a"), ("hmirrors/a", "hmirror/hmirrors/a")])
def test_a_node_that_does_not_rewrite_is_served_as_well(repository: str, path: str) -> None:
    assert rules(("(.*)", "hmirror/$1"), node_rewrites=True).apply(repository).path == path


def test_without_the_setting_the_prefix_comes_twice() -> None:
    assert rules(("(.*)", "hmirror/$1")).apply("hmirror/a").path == "hmirror/hmirror/a"


def test_a_rule_without_a_literal_prefix_tells_nothing_of_the_node() -> None:
    assert rules(("^(.*)$", "$1/x"), node_rewrites=True).apply("a/x").path == "a/x/x"


def test_an_anchored_rule_lets_rewritten_paths_pass() -> None:
    made = rules(("^cpopen/(.+)$", "local/$1"))
    assert made.apply(made.apply("cpopen/a").path).path == "local/a"


@pytest.mark.parametrize("replacement", ["", "..", "a b", "a?x=y", "a#b", "a%2fb", "ä", "a\r\nb", "a:b", "a@b", "a\\b"])
def test_a_rule_that_leaves_no_repository_is_refused_with_its_place(replacement: str) -> None:
    with pytest.raises(Denied, match=re.escape("c.yaml:1:9")):
        rules((".*", replacement)).apply("a")


PIECES = st.sampled_from(["$1", "$0", "..", "/", "//", "a", "?", "#", "%2e", ".", "x/", "\n", "@", ":"])
TEMPLATES = st.lists(PIECES, max_size=6).map("".join)
PATTERNS = st.sampled_from(["(.*)", "^a", "a", "(.)", "^([^/]*)/(.*)$", "b|/", ""])


@given(
    st.lists(st.tuples(PATTERNS, TEMPLATES), max_size=3), st.from_regex(r"[ab]{1,3}(/[ab]{1,3}){0,2}", fullmatch=True)
)
def test_no_rules_lead_out_of_the_repository_path(pairs: list[tuple[str, str]], repository: str) -> None:
    with contextlib.suppress(Denied):
        path = rules(*pairs).apply(check_repository(repository)).path
        assert path == join_path(path) != ""
        assert not set("?#%@:\\ \n") & set(path)
