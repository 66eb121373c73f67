"""The tools that charts are judged with: two generations of Helm, and the schemas of Kubernetes."""

import importlib
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from tests.tools.catalogue import HELM_3, HELM_4, SCHEMAS_1_21, SCHEMAS_1_25

HELM_3_PROGRAM = HELM_3.path / "helm"
CHART_TOOLS = (HELM_3, HELM_4, SCHEMAS_1_21, SCHEMAS_1_25)


@cache
def helm_4() -> ModuleType:
    """The bindings of Helm 4: the library of Go inside of Python."""
    sys.path.append(str(HELM_4.path))
    return importlib.import_module("helm_python")


@cache
def schema_directories() -> dict[str, Path]:
    """The directory of each version's strict schemas, such as `1.30`."""
    directories = {
        ".".join(path.name.removeprefix("v").split(".")[:2]): path
        for tool in (SCHEMAS_1_21, SCHEMAS_1_25)
        for path in (tool.path / "kubernetes_validate" / "kubernetes-json-schema").glob("v1.*-local-strict")
    }
    return {version: directories[version] for version in directories if int(version.split(".")[1]) >= 21}
