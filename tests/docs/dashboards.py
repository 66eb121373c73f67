"""The dashboards and rules in `helm/`, as far as tests look at them."""

import json
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from tests.docs.pages import ROOT

CHART = ROOT / "helm" / "scope-proxy"
RULES = CHART / "rules" / "scope-proxy.rules.yaml"
CASES = ROOT / "tests" / "rules"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `name` says on which dashboard it stands."""

    name: str
    json: dict[str, Any]

    @property
    def queries(self) -> list[str]:
        """What it asks Prometheus."""
        return [target["expr"] for target in self.json["targets"]]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard."""

    name: str
    json: dict[str, Any]

    @property
    def panels(self) -> list[Panel]:
        """Its panels."""
        return [Panel(f"{self.name}: {each.get('title')}", each) for each in self.json["panels"]]

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """Its variables by their name."""
        return {each["name"]: each for each in self.json["templating"]["list"]}


def dashboards() -> list[Dashboard]:
    """All of them."""
    files = sorted((CHART / "dashboards").glob("*.json"))
    return [Dashboard(file.stem, json.loads(file.read_text(encoding="utf-8"))) for file in files]


def panels() -> list[Panel]:
    """The panels of all dashboards."""
    return [panel for dashboard in dashboards() for panel in dashboard.panels]


def rules() -> list[dict[str, Any]]:
    """All rules, of alerts and of recorded series."""
    loaded = YAML(typ="safe", pure=True).load(RULES.read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The rules that alert; some alerts have one for each severity."""
    return [rule for rule in rules() if "alert" in rule]


def cases() -> list[dict[str, Any]]:
    """The cases of promtool's unit tests."""
    files = sorted(CASES.glob("*.test.yaml"))
    loaded = [YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8")) for file in files]
    return [case for content in loaded for test in content["tests"] for case in test["alert_rule_test"]]
