"""Objects against the schemas of a version of Kubernetes: nothing unknown, nothing of the wrong type."""

import json
from functools import cache
from typing import Any

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from tests.chart.tools import schema_directories

CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "Certificate", "GrafanaDashboard"}
"""KnownManifests that operators define, and Kubernetes has no schema of."""


def problems(item: dict[str, Any], version: str) -> list[str]:
    """What is wrong with an object, each with its place."""
    found = _validator(_name(item), version).iter_errors(item)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in found]


def _name(item: dict[str, Any]) -> str:
    group, _, version = item["apiVersion"].rpartition("/")
    return "-".join(filter(None, (item["kind"].lower(), group.split(".")[0], version)))


@cache
def _validator(name: str, version: str) -> Draft7Validator:
    path = schema_directories()[version] / f"{name}.json"
    assert path.exists(), f"Kubernetes {version} has no {name}"
    return Draft7Validator(json.loads(path.read_text(encoding="utf-8")), registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    text = (schema_directories()[version] / "_definitions.json").read_text(encoding="utf-8")
    resource = Resource.from_contents(json.loads(text), default_specification=DRAFT7)
    empty: Registry[Any] = Registry()
    made: Registry[Any] = empty.with_resource("_definitions.json", resource)
    return made
