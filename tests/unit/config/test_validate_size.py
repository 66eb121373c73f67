import json

import pytest

from proxy.config.load import parse_config

MANY = "registries: each adds about 140 series"
RULES = "rewrite rules: each adds a series"


def notes(registries: int, rules: int) -> list[str]:
    listed = [{"pattern": f"^only{number}$", "replacement": f"to{number}"} for number in range(rules)]
    own = {"endpoints": ["https://m.example"], "rewrites": listed}
    names = {f"r{number}.example": own if number == 0 else {} for number in range(registries)}
    found = parse_config(json.dumps({"version": 1, "registries": names}), "f").notes
    return [str(note) for note in found if "series" in note.message]


@pytest.mark.parametrize(("registries", "rules"), [(1, 0), (50, 0), (1, 50)])
def test_as_many_as_the_metrics_are_meant_for_are_no_matter(registries: int, rules: int) -> None:
    assert notes(registries, rules) == []


@pytest.mark.parametrize(("registries", "rules", "expected"), [(51, 0, f"51 {MANY}"), (1, 51, f"51 {RULES}")])
def test_more_are_a_warning_that_says_what_they_cost(registries: int, rules: int, expected: str) -> None:
    (note,) = notes(registries, rules)
    assert note.startswith("f:1:")
    assert f"warning: {expected}" in note
