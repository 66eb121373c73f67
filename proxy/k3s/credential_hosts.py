"""Assigns credentials to hosts: those that nodes pulled from directly, and entries under keys that never matched."""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.config.address import Origin, default_endpoint
from proxy.config.errors import Positions
from proxy.config.model import ANY, Config, Host, Registry
from proxy.k3s.result import Change

_HUB = "docker.io"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_HOST = "registry-1.docker.io"


def settle_hosts(config: Config, positions: Positions) -> "SettledHosts":
    """Give every entry of `hosts` a registry or an endpoint that uses it, where one is meant."""
    settling = _Settling(dict(config.registries), dict(config.hosts), positions)
    for name in config.hosts:
        if name != ANY:
            settling.settle(name)
    config = config.model_copy(update={"registries": settling.registries, "hosts": settling.hosts})
    return SettledHosts(config, settling.changes, settling.came_from)


@dataclass(frozen=True, slots=True)
class SettledHosts:
    """A configuration with fixed hosts."""

    config: Config
    changes: list[Change]
    came_from: dict[str, str]
    """The key under which an entry stands in the file, by its host; only for those that have another one."""


class _Settling:
    """The registries and hosts during the fix."""

    def __init__(self, registries: dict[str, Registry], hosts: dict[str, Host], positions: Positions) -> None:
        self.registries = registries
        self.hosts = hosts
        self.changes: list[Change] = []
        self.came_from: dict[str, str] = {}
        self._positions = positions

    def settle(self, name: str) -> None:
        """Fix one entry of `hosts`."""
        if name in _HUB_NAMES:
            self._settle_hub(name)
        elif name not in self.registries:
            self._pull_directly(name)
        elif name not in self._used():
            self._move(name)
        else:
            self._ask_about(name)

    def _settle_hub(self, name: str) -> None:
        if _HUB not in self.registries:
            self.registries[_HUB] = Registry()
            self._say(name, "changed", f"{_HUB} is added to the registries, as its images were pulled with credentials")
        if _HUB_HOST in self._used() and (name == _HUB_HOST or _HUB_HOST not in self.hosts):
            self._rename(name, _HUB_HOST, "is where Docker Hub's images are, so k3s never used this entry")
        elif name != _HUB_HOST:
            self._move(name, _HUB)

    def _pull_directly(self, name: str) -> None:
        """Images of the host itself were pulled with what is configured for it, without any mirror."""
        origin = default_endpoint(name).origin
        plain = {each.authority for each in self._origins() if each.scheme == "http"}
        if origin.scheme == "https" and origin.authority in plain:
            return  # a mirror on plain HTTP only: nodes could not pull its own images
        self.registries[name] = Registry()
        self._say(
            name,
            "changed",
            f"{name} is added to the registries: nodes pulled its images with this entry, which they no longer have",
        )

    def _move(self, name: str, registry: str | None = None) -> None:
        """The entry stands under the registry's name, where its endpoint's host was meant."""
        endpoints = self.registries[registry or name].endpoints
        origins = list(dict.fromkeys(endpoint.address.origin for endpoint in endpoints))
        free = [origin for origin in origins if origin.authority not in self.hosts]
        if len(origins) != 1 or not free:
            hosts = ", ".join(origin.authority for origin in origins) or "none"
            self._say(name, "question", f"nothing uses this entry: its key must be an endpoint's host ({hosts})")
            return
        self._rename(
            name,
            free[0].authority,
            "is the endpoint, so k3s never used this entry, whose key is the registry's name: is it for the endpoint?",
            "question",
        )

    def _rename(self, name: str, host: str, why: str, kind: str = "changed") -> None:
        if name == host:
            return
        self.came_from[host] = name
        self.hosts = {host if key == name else key: value for key, value in self.hosts.items()}
        self._say(name, kind, f"it is used for {host}: that {why}")

    def _ask_about(self, name: str) -> None:
        """An entry of a registry with other endpoints before it, which have none."""
        if not self.hosts[name].credentials or ANY in self.hosts:
            return
        bare = [
            endpoint.address.origin.authority
            for endpoint in self.registries[name].endpoints
            if endpoint.address.origin.authority not in self.hosts
        ]
        if bare:
            self._say(
                name,
                "question",
                f"these credentials are for {name} itself; {', '.join(dict.fromkeys(bare))} gets none: if they are "
                "meant for there, use that host as the key",
            )

    def _origins(self) -> Iterable[Origin]:
        for name, registry in self.registries.items():
            if not registry.endpoints and name != ANY:
                yield default_endpoint(name).origin
            yield from (endpoint.address.origin for endpoint in registry.endpoints)

    def _used(self) -> set[str]:
        return {
            key for origin in self._origins() for key in (f"{origin.authority_host}:{origin.port}", origin.authority)
        }

    def _say(self, name: str, kind: str, message: str) -> None:
        where = self._positions.key("hosts", name)
        self.changes.append(Change(where, "question" if kind == "question" else "changed", message))
