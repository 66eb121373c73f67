"""The chart as Helm 3 and Helm 4 render it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.chart.tools import HELM_3_PROGRAM, helm_4, schema_directories
from tests.real.processes import Outcome, run

HERE = Path(__file__).parent
CHART = HERE.parents[1] / "helm" / "scope-proxy"
VALUES = sorted((HERE / "values").glob("*.yaml"))
REFUSED = sorted((HERE / "refused").glob("*.yaml"))
RELEASE, NAMESPACE = "demo", "registry"
USUAL = "1.30"
"""The version of Kubernetes of tests for which it does not matter."""


def versions() -> list[str]:
    """Every version of Kubernetes that the chart is for and whose schemas are at hand."""
    return sorted(schema_directories(), key=lambda version: int(version.split(".")[1]))


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a release consists of."""

    objects: tuple[dict[str, Any], ...]

    def of(self, kind: str, name: str | None = None) -> list[dict[str, Any]]:
        """The objects of a kind, and with a name that ends so."""
        return [
            item
            for item in self.objects
            if item["kind"] == kind and (name is None or item["metadata"]["name"].endswith(name))
        ]

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """The only one."""
        found = self.of(kind, name)
        assert len(found) == 1, [item["metadata"]["name"] for item in found]
        return found[0]

    def pods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The specification of every pod that the release starts, hooks and tests included."""
        for item in self.objects:
            name = f"{item['kind']}/{item['metadata']['name']}"
            if item["kind"] == "Pod":
                yield name, item["spec"]
            elif item["kind"] in ("DaemonSet", "StatefulSet", "Job"):
                yield name, item["spec"]["template"]["spec"]
            elif item["kind"] == "CronJob":
                yield name, item["spec"]["jobTemplate"]["spec"]["template"]["spec"]

    def configurations(self) -> dict[str, str]:
        """The text of every configuration of the proxy, by the name of its ConfigMap."""
        return {
            item["metadata"]["name"]: item["data"]["config.yaml"]
            for item in self.of("ConfigMap")
            if "config.yaml" in item["data"]
        }


def case(name: str) -> Path:
    """A file of values by a part of its name."""
    [path] = [path for path in VALUES if name in path.stem]
    return path


def helm(*arguments: str | Path) -> Outcome:
    """Run Helm 3."""
    return run([str(HELM_3_PROGRAM), *map(str, arguments)])


def template(values: Path | None, version: str = USUAL, *more: str) -> Outcome:
    """Render the chart with a file of values for a version of Kubernetes."""
    given = () if values is None else ("--values", values)
    return helm("template", RELEASE, CHART, "--namespace", NAMESPACE, "--kube-version", f"{version}.0", *given, *more)


def parsed(text: str) -> Rendered:
    """The objects of a rendered text."""
    return Rendered(tuple(item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item))


@cache
def rendered(values: Path | None, version: str = USUAL) -> Rendered:
    """The objects of the chart with a file of values."""
    return parsed(template(values, version).checked())


def values_of(path: Path | None) -> dict[str, Any]:
    """The values of a file."""
    return {} if path is None else yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def rendered_by_4(values: Mapping[str, Any], version: str = USUAL) -> dict[str, str]:
    """Every template of the chart as Helm 4 renders it, by its name; what Helm refuses is a RuntimeError."""
    library = helm_4()
    try:
        with library.Chart.load(CHART) as chart:
            return dict(chart.render({**values, "kubeVersion": f"{version}.0"}, name=RELEASE, namespace=NAMESPACE))
    except library.HelmError as error:
        raise RuntimeError(str(error)) from None
