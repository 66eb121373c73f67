"""The tools that charts are judged with: two generations of Helm, and the schemas of Kubernetes.

`make chart-tools` fetches them into a folder outside of the repository, each of an exact version.
"""

import importlib
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from tests.real.programs import not_here

FOLDER = Path(os.environ.get("SCOPE_PROXY_TOOLS") or Path.home() / ".cache" / "scope-proxy-tools")
HELM_3 = FOLDER / "bin" / "helm"
HELM_4 = FOLDER / "helm4"
SCHEMAS = (FOLDER / "schemas-1.21", FOLDER / "schemas-1.25")
"""Kubernetes 1.21 to 1.24, and 1.25 to the newest."""


def require_tools() -> None:
    """Skip the test where a tool is missing; in CI fail it."""
    missing = [path.name for path in (HELM_3, HELM_4, *SCHEMAS) if not path.exists()]
    if missing:
        not_here(f"not fetched: {', '.join(missing)}: run make chart-tools")


@cache
def helm_4() -> ModuleType:
    """The bindings of Helm 4: the library of Go inside of Python."""
    sys.path.append(str(HELM_4))
    return importlib.import_module("helm_python")


@cache
def schema_folders() -> dict[str, Path]:
    """The folder of each version's strict schemas, such as `1.30`."""
    folders = {
        ".".join(path.name.removeprefix("v").split(".")[:2]): path
        for root in SCHEMAS
        for path in (root / "kubernetes_validate" / "kubernetes-json-schema").glob("v1.*-local-strict")
    }
    return {version: folders[version] for version in folders if int(version.split(".")[1]) >= 21}
