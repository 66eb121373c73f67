"""Detects a node's container runtime, its tree, and whether it reads the tree. Blocking calls."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.nodes.managed_files import read

TREE = "certs.d"
CONFIG = "config.toml"
_PLUGINS = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images")
_RANCHER = (
    ("k3s", "var/lib/rancher/k3s/agent/etc/containerd"),
    ("RKE2", "var/lib/rancher/rke2/agent/etc/containerd"),
)
_PLAIN = ("containerd", "etc/containerd")


class NodeError(Exception):
    """The node cannot be configured this way; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A container runtime and its configuration directory."""

    name: str
    directory: Path

    @property
    def tree(self) -> Path:
        """Where its `hosts.toml` files are."""
        return self.directory / TREE


def detect(root: Path = Path("/")) -> Runtime:
    """The runtime of this machine; raises NodeError where there is none, or more than one."""
    rancher = list(_present(root, _RANCHER))
    if len(rancher) > 1:
        names = " and ".join(str(runtime.tree) for runtime in rancher)
        raise NodeError(f"both k3s and RKE2 are installed: choose the tree with --certs-dir, {names}")
    found = [*rancher, *_present(root, (_PLAIN,))]
    if not found:
        raise NodeError("found no k3s, RKE2 or containerd: name the directory of hosts.toml files with --certs-dir")
    return found[0]


def advice(tree: Path) -> str | None:
    """Why the runtime does not read the tree, by its configuration; raises NodeError.

    Old k3s and RKE2 (before January 2024) write mirrors into containerd's own configuration: no file in a tree counts
    there. An unreadable configuration, or one elsewhere, gives no advice.
    """
    config = tree.parent / CONFIG
    text = read(config)
    if text is None:
        return None
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return f"{config} is not valid TOML: cannot tell whether containerd reads {tree}"
    sections = list(_registry_sections(settings))
    is_rancher = "rancher" in tree.parts
    if any(section.get("mirrors") for section in sections):
        raise NodeError(f"{config} contains mirrors, so containerd reads no hosts.toml: {_instead(is_rancher)}")
    if any(section.get("config_path") for section in sections):
        return None
    if is_rancher:
        raise NodeError(f"{config} names no config_path, as before January 2024: {_instead(is_rancher)}")
    return (
        f"{config} names no config_path, so containerd reads no hosts.toml: set "
        f'config_path = "{tree}" in [plugins."{_plugin(settings)}".registry] and restart containerd'
    )


def _present(root: Path, candidates: tuple[tuple[str, str], ...]) -> Iterator[Runtime]:
    for name, directory in candidates:
        if (root / directory).is_dir():
            yield Runtime(name, root / directory)


def _registry_sections(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    plugins = settings.get("plugins")
    for name in _PLUGINS:
        plugin = plugins.get(name) if isinstance(plugins, dict) else None
        section = plugin.get("registry") if isinstance(plugin, dict) else None
        if isinstance(section, dict):
            yield section


def _plugin(settings: dict[str, Any]) -> str:
    return _PLUGINS[1] if settings.get("version") == 3 else _PLUGINS[0]  # noqa: PLR2004 - containerd 2


def _instead(is_rancher: bool) -> str:
    if is_rancher:
        return "install the output of --print-registries-yaml as registries.yaml, and restart the service"
    return "replace them with config_path (containerd uses one or the other) and restart it"
