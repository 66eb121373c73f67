"""The configuration with which scope-proxy is measured, and a file that changes it for the baseline."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from benchmarks.certificate import Certificate
from benchmarks.installation import BaselineError

Settings = Mapping[str, object]
_CHOSEN = frozenset({"listeners[0].address", "listeners[0].tls", "registries.docker.io.endpoints", "cache.path"})
"""Settings that the benchmark chooses for every start."""


def settings(origin: str, address: str, store: Path, tls: Certificate | None) -> Settings:
    """As few settings as possible, so that older revisions understand them."""
    files = {"tls": {"certFile": str(tls.chain), "keyFile": str(tls.key)}} if tls else {}
    return {
        "version": 1,
        "listeners": [{"address": address, **files}],
        "admin": None,
        "registries": {"docker.io": {"endpoints": [f"http://{origin}"]}},
        "defaultRegistry": "docker.io",
        "cache": {"path": str(store), "maxSize": "50Gi", "tagAge": "1h"},
    }


def merged(value: object, change: object) -> object:
    """The settings with changes: mappings are merged by key and lists of mappings by position, others are replaced.

    A null removes a setting; where there is none to remove, it is the value.
    """
    if isinstance(value, dict) and isinstance(change, dict):
        removed = {key for key in change if change[key] is None and value.get(key) is not None}
        both = {key: merged(value.get(key), change[key]) if key in change else value[key] for key in value | change}
        return {key: both[key] for key in both if key not in removed}
    if isinstance(value, list) and isinstance(change, list):
        return [merged(value[at], item) if at < len(value) else item for at, item in enumerate(change)]
    return change


def read_changes(file: Path) -> Settings:
    """The changes that a YAML file has; raises BaselineError."""
    try:
        changes = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaselineError(f"cannot read the baseline's configuration {file}: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise BaselineError(f"the baseline's configuration {file} is not YAML: {reason}") from error
    if not isinstance(changes, dict):
        raise BaselineError(f"the baseline's configuration {file} is not a mapping of settings")
    if reserved := sorted(_CHOSEN.intersection(_names(changes))):
        raise BaselineError(f"remove {', '.join(reserved)} from {file}: the benchmark sets it by itself")
    return changes


def _names(value: object, parent: str = "") -> Iterator[str]:
    """The names of all settings in a value, as `listeners[0].address`."""
    if isinstance(value, dict):
        children = [(f"{parent}.{key}" if parent else str(key), child) for key, child in value.items()]
    elif isinstance(value, list):
        children = [(f"{parent}[{at}]", child) for at, child in enumerate(value)]
    else:
        return
    for name, child in children:
        yield name
        yield from _names(child, name)
