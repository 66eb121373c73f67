"""Every alert names only what is exported, has its runbook, and cases in which it fires and is silent."""

import re
from typing import Any

import pytest

from tests.docs.dashboards import alerts, cases, rules
from tests.docs.exported import FOREIGN, exported, metric_names
from tests.docs.pages import ROOT, headings, text_of

RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "What to do"]
SEVERITIES = {"critical", "warning", "info"}
NAMES = sorted({rule["alert"] for rule in alerts()})
every_alert = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_only_what_is_exported_or_recorded(rule: dict[str, Any]) -> None:
    recorded = {each["record"] for each in rules() if "record" in each}
    named = metric_names(rule["expr"])
    assert named
    assert named - exported() - recorded - FOREIGN == set()


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"


@every_alert
def test_an_alert_has_its_runbook(name: str) -> None:
    page = RUNBOOKS / f"{name}.md"
    assert headings(page) == [name, *SECTIONS]


def test_no_runbook_is_left_over() -> None:
    assert sorted(page.stem for page in RUNBOOKS.glob("*.md")) == NAMES


@every_alert
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(name: str) -> None:
    own = [case for case in cases() if case["alertname"] == name]
    fired = {each["exp_labels"]["severity"] for case in own for each in case["exp_alerts"]}
    assert fired == {rule["labels"]["severity"] for rule in alerts() if rule["alert"] == name}
    assert any(not case["exp_alerts"] for case in own)


def test_the_page_lists_every_alert_as_it_is() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(runbooks/\w+\.md\) \| [^|]+ \| (\w+) \| ([^|]+) \|$", text_of("docs/alerts.md"), re.MULTILINE
    )
    listed = {name: (wait, tuple(severities.split(", "))) for name, wait, severities in rows}
    expected: dict[str, tuple[str, tuple[str, ...]]] = {}
    for rule in alerts():
        _, severities = expected.get(rule["alert"], ("", ()))
        expected[rule["alert"]] = (rule["for"], (*severities, rule["labels"]["severity"]))
    assert listed == expected


@every_alert
def test_a_runbook_asks_for_what_is_exported(name: str) -> None:
    text = text_of(RUNBOOKS / f"{name}.md")
    queries = [line for block in re.findall(r"```promql\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert queries
    assert {name for query in queries for name in metric_names(query)} - exported() - FOREIGN <= {"up"}
