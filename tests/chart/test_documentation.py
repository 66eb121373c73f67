"""The chart's README, schema and icon are what the chart is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from scripts.reference.chart import documented
from scripts.reference.files import generated
from tests.chart.helm import CHART

PASSED_ON = {"labels", "quantities", "nodeSelector"}
"""Maps whose keys are the operator's own."""


def values() -> str:
    return (CHART / "values.yaml").read_text(encoding="utf-8")


def paths(tree: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every value, as deep as the schema knows its keys."""
    for key, value in tree.items():
        yield f"{prefix}{key}"
        inner = schema.get("properties", {}).get(key, {})
        if isinstance(value, dict) and "properties" in inner:
            yield from paths(value, inner, f"{prefix}{key}.")


def test_what_is_made_is_up_to_date() -> None:
    stale = [path.name for path, text in generated().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run make reference"


def test_every_value_is_described_and_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    described = {value.path: value.description for value in documented(values())}
    assert [path for path, text in described.items() if len(text) < len("Make one.")] == []
    tree = yaml.safe_load(values())
    for path in described:
        part, known = tree, schema
        for key in path.split("."):
            part = part[key]
            if "$ref" in known:
                known = schema["definitions"][known["$ref"].rpartition("/")[2]]
            known = known["properties"][key]
    left_out = set(paths(tree, schema)) - set(described)
    assert {path for path in left_out if "." not in path or path.partition(".")[0] in {"node", "central"}} == set()


def test_nothing_unknown_is_taken_anywhere() -> None:
    """Every object of the schema is closed, or says what its values are, or is handed on to Kubernetes as it is."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert [place for place in open_objects(schema, "") if place] == []


def open_objects(part: Any, place: str) -> Iterator[str]:
    """Objects of the schema that take any key without saying what for."""
    if isinstance(part, list):
        for item in part:
            yield from open_objects(item, place)
    if not isinstance(part, dict):
        return
    if part.get("type") == "object" and "additionalProperties" not in part:
        words = str(part.get("description", "")) or place.rpartition("/")[2]
        yield "" if words.startswith(("Kubernetes: ", "What a parent chart", "items")) else place
    for key, value in part.items():
        yield from open_objects(value, f"{place}/{key}")


def test_versions_are_those_of_the_program(pytestconfig: Any) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (Path(str(pytestconfig.rootpath)) / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{chart["appVersion"]}"\n' in project
