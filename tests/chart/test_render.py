"""The chart is clean, and what it renders is what every version of Kubernetes takes."""

from pathlib import Path

import pytest

from tests.chart.helm import CHART, USUAL, VALUES, helm, parsed, rendered, rendered_by_4, values_of, versions
from tests.chart.schemas import CUSTOM, problems
from tests.chart.tools import helm_4

every_file = pytest.mark.parametrize("values", [None, *VALUES], ids=lambda path: path.stem if path else "defaults")


def test_there_are_enough_cases() -> None:
    assert len(VALUES) >= 8
    assert {"1.21", "1.36"} <= set(versions())


@every_file
def test_lint_is_clean(values: Path | None) -> None:
    given = () if values is None else ("--values", values)
    result = helm("lint", "--strict", CHART, *given)
    assert "[" not in result.checked(), result.output  # not even an [INFO]


@every_file
def test_lint_of_helm_4_is_clean(values: Path | None) -> None:
    report = helm_4().lint(CHART, values_of(values), strict=True)
    assert (report["errors"], report["messages"]) == ([], [])


@pytest.mark.slow
@every_file
def test_every_version_of_kubernetes_takes_every_object(values: Path | None) -> None:
    found = []
    for version in versions():
        objects = rendered(values, version).objects
        assert len(objects) >= 2
        for item in objects:
            if item["kind"] not in CUSTOM:
                place = f"{version} {item['kind']} {item['metadata']['name']}"
                found += [f"{place}: {problem}" for problem in problems(item, version)]
    assert found == []


def test_what_is_wrong_is_seen() -> None:
    [item] = rendered(VALUES[0]).of("DaemonSet")
    item = {**item, "spec": {**item["spec"], "replicas": 2}}
    assert problems(item, USUAL) != []


@every_file
@pytest.mark.parametrize("version", ["1.21", USUAL, "1.36"])
def test_helm_4_renders_the_same(values: Path | None, version: str) -> None:
    by_4 = "\n---\n".join(
        text for name, text in rendered_by_4(values_of(values), version).items() if name.endswith(".yaml")
    )
    mine, others = (
        sorted(objects, key=lambda item: (item["kind"], item["metadata"]["name"], str(item["metadata"])))
        for objects in (parsed(by_4).objects, rendered(values, version).objects)
    )
    assert mine == others


def test_kinds_follow_the_version() -> None:
    both = next(path for path in VALUES if "both" in path.stem)
    assert rendered(both, "1.21").one("HorizontalPodAutoscaler")["apiVersion"] == "autoscaling/v2beta2"
    assert rendered(both, "1.23").one("HorizontalPodAutoscaler")["apiVersion"] == "autoscaling/v2"
    assert "persistentVolumeClaimRetentionPolicy" not in rendered(both, "1.26").one("StatefulSet")["spec"]
    assert "persistentVolumeClaimRetentionPolicy" in rendered(both, "1.27").one("StatefulSet")["spec"]


def test_an_older_kubernetes_is_refused() -> None:
    result = helm("template", "demo", CHART, "--kube-version", "1.20.0")
    assert result.status != 0
    assert "incompatible with Kubernetes v1.20.0" in result.errors
