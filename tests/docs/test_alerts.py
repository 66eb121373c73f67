"""Every alert names only what is exported, has its runbook, and cases in which it fires and is silent."""

import re

from tests.docs.dashboards import alerts, cases, rules
from tests.docs.exported import FOREIGN, exported, metric_names
from tests.docs.pages import ROOT, blocks, headings, text_of

RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "What to do"]
SEVERITIES = {"critical", "warning", "info"}
NAMES = sorted({rule["alert"] for rule in alerts()})


def test_a_rule_names_only_what_is_exported_or_recorded() -> None:
    known = exported() | FOREIGN | {rule["record"] for rule in rules() if "record" in rule}
    named = [(rule.get("alert") or rule["record"], metric_names(rule["expr"])) for rule in rules()]
    assert [name for name, metrics in named if not metrics] == []
    assert [(name, metrics - known) for name, metrics in named if metrics - known] == []


def test_an_alert_has_a_severity_a_duration_and_its_annotations() -> None:
    for rule in alerts():
        name, notes = rule["alert"], rule["annotations"]
        assert rule["labels"]["severity"] in SEVERITIES, name
        assert re.fullmatch(r"\d+[mh]", rule["for"]), name
        assert notes.keys() == {"summary", "description", "runbook_url"}, name
        assert notes["runbook_url"] == f"docs/runbooks/{name}.md"


def test_every_alert_and_nothing_else_has_a_runbook() -> None:
    found = {page.stem: headings(page) for page in RUNBOOKS.glob("*.md")}
    assert found == {name: [name, *SECTIONS] for name in NAMES}


def test_every_severity_of_an_alert_has_a_case_in_which_it_fires() -> None:
    fired = {(case["alertname"], each["exp_labels"]["severity"]) for case in cases() for each in case["exp_alerts"]}
    assert fired == {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}


def test_every_alert_has_a_case_in_which_it_does_not_fire() -> None:
    silent = {case["alertname"] for case in cases() if not case["exp_alerts"]}
    assert sorted(silent) == NAMES


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


def test_a_runbook_queries_what_is_exported() -> None:
    known = exported() | FOREIGN
    for name in NAMES:
        queries = [line for block in blocks(RUNBOOKS / f"{name}.md", "promql") for line in block.text.splitlines()]
        assert queries, name
        assert set().union(*map(metric_names, queries)) - known == set(), name
