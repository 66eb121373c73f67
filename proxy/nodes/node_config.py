"""Files by which a node pulls through the proxy: containerd's `hosts.toml`, and the `registries.yaml` of k3s."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import tomli_w

from proxy.config.address import Origin, default_endpoint, is_loopback
from proxy.config.model import ANY, Config, Registry
from proxy.version import VERSION

HOSTS_FILE = "hosts.toml"
CA_FILE = "scope-proxy-ca.crt"
"""The proxies' CA certificate, beside `hosts.toml`; the path is relative, for a node may see the tree elsewhere."""
DIAL_TIMEOUT = "3s"
"""To connect to a proxy that is not on the node (containerd 2.1 and newer; 30 s without it)."""

_DEFAULT_DIRECTORY = "_default"
_CAPABILITIES = ("pull", "resolve")
_MARK = re.compile(r"# managed by scope-proxy (?P<version>\S+), instance (?P<instance>\S+)(?P<made>, folder made)?")
_INSTANCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")
_ADVICE = "# Do not edit: scope-proxy node apply overwrites this file, scope-proxy node remove deletes it."


@dataclass(frozen=True, slots=True)
class Mark:
    """The first line of a managed file: its instance, and whether scope-proxy created its directory."""

    instance: str
    made_directory: bool = False
    version: str = VERSION

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The mark of a file; None for an unmanaged one."""
        match = _MARK.fullmatch(text.partition("\n")[0])
        return None if match is None else cls(match["instance"], match["made"] is not None, match["version"])

    def __str__(self) -> str:
        """Two lines of comment."""
        made = ", folder made" if self.made_directory else ""
        return f"# managed by scope-proxy {self.version}, instance {self.instance}{made}\n{_ADVICE}\n"


@dataclass(frozen=True, slots=True)
class NodeHosts:
    """Where a node pulls from for one registry: the proxies in order, then the registry itself as a fallback."""

    registry: str
    proxies: tuple[str, ...]
    fallback: str | None
    """URL of the registry itself, empty for any registry; None where nodes pull only through the proxies."""

    @property
    def directory(self) -> str:
        """The name of the directory that containerd reads first."""
        if self.registry == ANY:
            return _DEFAULT_DIRECTORY
        host, colon, port = self.registry.rpartition(":")
        return f"{host}_{port}_" if colon and port.isdecimal() else self.registry

    def render(self, mark: Mark, *, with_ca: bool = False) -> str:
        """The text of the file.

        Without a fallback the last proxy is `server`, and no host of that name stands before it: so a failing pull
        tries each proxy once.
        """
        tables = {proxy: _table(proxy, with_ca=with_ca) for proxy in self.proxies}
        settings: dict[str, object] = {"server": self.fallback}
        if self.fallback is None:
            last = self.proxies[-1]
            settings = {"server": last, **tables.pop(last)}
        return f"{mark}\n{tomli_w.dumps({**settings, 'host': tables})}"


def plan(config: Config, proxies: Sequence[str], image_registry: str | None = None) -> tuple[NodeHosts, ...]:
    """Where a node pulls the images of each configured registry.

    `image_registry` serves the proxy's own image: it is never left without a fallback.
    """
    planned = {
        name: NodeHosts(name, tuple(proxies), None if _only_proxies(config, registry) else _itself(name, registry))
        for name, registry in config.registries.items()
    }
    if image_registry:
        _spare(planned, image_registry)
    return tuple(planned.values())


def checked_instance(value: str) -> str:
    """A name that fits into a mark; raises ValueError."""
    if not _INSTANCE.fullmatch(value):
        raise ValueError("an instance is a name of letters, digits, '.', '_', '/' and '-', such as namespace/release")
    return value


def _table(proxy: str, *, with_ca: bool) -> dict[str, object]:
    origin = Origin.parse(proxy)
    table: dict[str, object] = {"capabilities": list(_CAPABILITIES)}
    if with_ca and origin.scheme == "https":
        table["ca"] = CA_FILE
    if not is_loopback(origin.host):
        table["dial_timeout"] = DIAL_TIMEOUT
    return table


def _only_proxies(config: Config, registry: Registry) -> bool:
    """Whether nodes must not pull from the registry itself: names are rewritten, or access rules apply."""
    rewritten = registry.rewrites or any(endpoint.rewrites for endpoint in registry.endpoints)
    return bool(config.access or rewritten)


def _itself(name: str, registry: Registry) -> str:
    """The registry's own URL; as it is configured, for it may be on plain HTTP."""
    if name == ANY:
        return ""
    own = (endpoint.address.origin for endpoint in registry.endpoints if endpoint.address.origin.authority == name)
    return str(next(own, default_endpoint(name).origin))


def _spare(planned: dict[str, NodeHosts], name: str) -> None:
    """Exclude one registry from the proxies where it would have no fallback."""
    responsible = planned.get(name) or planned.get(ANY)
    if responsible is None or responsible.fallback is not None:
        return
    planned.pop(name, None)
    if ANY in planned and planned[ANY].fallback is None:
        planned[name] = NodeHosts(name, (), str(default_endpoint(name).origin))


_PLAIN_KEY = re.compile(r"[a-z][a-z0-9.-]*")


def node_settings(names: Sequence[str], proxies: Sequence[str], ca_file: str | None = None) -> dict[str, Any]:
    """The settings of the file: each registry has the proxies as endpoints; `ca_file`: their CA, a path on the node."""
    settings: dict[str, Any] = {"mirrors": {name: {"endpoint": list(proxies)} for name in names}}
    hosts = secure_hosts(proxies) if ca_file is not None else []
    if hosts:
        settings["configs"] = {host: {"tls": {"ca_file": ca_file}} for host in hosts}
    return settings


def render_node(names: Sequence[str], proxies: Sequence[str], ca_file: str | None = None) -> str:
    """The file as text."""
    lines = ["mirrors:"]
    for name in names:
        lines += [f"  {yaml_key(name)}:", *endpoint_lines("    ", proxies)]
    return "\n".join([*(lines if names else ["mirrors: {}"]), *ca_lines(proxies, ca_file), ""])


def endpoint_lines(indent: str, proxies: Sequence[str], comment: str = "") -> list[str]:
    """The endpoints of one registry."""
    return [f"{indent}endpoint:{comment}", *(f"{indent}  - {json.dumps(proxy)}" for proxy in proxies)]


def ca_lines(proxies: Sequence[str], ca_file: str | None) -> list[str]:
    """The section with the CA of https proxies."""
    hosts = secure_hosts(proxies) if ca_file is not None else []
    lines = ["configs:"] if hosts else []
    for host in hosts:
        lines += [f"  {json.dumps(host)}:", "    tls:", f"      ca_file: {json.dumps(ca_file)}"]
    return lines


def secure_hosts(proxies: Sequence[str]) -> list[str]:
    """The `host[:port]` of each proxy with a certificate."""
    origins = [Origin.parse(proxy) for proxy in proxies]
    return list(dict.fromkeys(origin.authority for origin in origins if origin.scheme == "https"))


def yaml_key(name: str) -> str:
    """A key, in quotes where YAML could take it for something else."""
    return name if _PLAIN_KEY.fullmatch(name) and name not in {"y", "n", "yes", "no", "on", "off"} else json.dumps(name)
