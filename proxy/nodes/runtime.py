"""Which container runtime a node has, where its tree is, and whether it reads one at all. Blocking calls."""

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
    """A node that cannot be configured this way; says what to do."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A container runtime and the directory of its configuration."""

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
        raise NodeError(f"k3s and RKE2 are both here: name the tree with --certs-dir, {names}")
    found = [*rancher, *_present(root, (_PLAIN,))]
    if not found:
        raise NodeError("no k3s, RKE2 or containerd is here: name the directory of hosts.toml files with --certs-dir")
    return found[0]


def advice(tree: Path) -> str | None:
    """What keeps the runtime from reading the tree, as far as its configuration tells; raises NodeError.

    Old k3s and RKE2 (before January 2024) write mirrors into containerd's own configuration: no file in a tree counts
    there. A configuration that cannot be read, or stands elsewhere, says nothing.
    """
    config = tree.parent / CONFIG
    text = read(config)
    if text is None:
        return None
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return f"{config} is not TOML: whether containerd reads {tree} is not known"
    sections = list(_registry_sections(settings))
    is_rancher = "rancher" in tree.parts
    if any(section.get("mirrors") for section in sections):
        raise NodeError(
            f"{config} holds the mirrors themselves, so containerd reads no hosts.toml: {_instead(is_rancher)}"
        )
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
        return "place what --print-registries-yaml prints as registries.yaml, and restart the service"
    return "put config_path in their place (containerd takes one or the other) and restart it"
