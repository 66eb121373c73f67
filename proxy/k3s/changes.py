"""The changes of a conversion and their reasons, beside the importer's notes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxy.config.address import default_endpoint
from proxy.config.errors import Position, Positions
from proxy.config.model import ANY, Config
from proxy.config.reading.yaml_values import Document, Value
from proxy.k3s.mirrors import breaks_hosts_toml
from proxy.k3s.result import Change, SecretFile, secret_name

_RELEASES = (
    "v1.26.13 or a later 1.26, v1.27.10 or a later 1.27, v1.28.6 or a later 1.28, or v1.29.1 or any later release"
)
"""The releases of k3s and RKE2 that support `disable-default-registry-endpoint` (k3s issue 8975)."""


@dataclass(frozen=True, slots=True)
class ChangeReporter:
    """Reports the changes; `positions` are those of the imported configuration."""

    document: Document
    config: Config
    positions: Positions
    came_from: Mapping[str, str]
    """The key of an entry of `hosts` in the file, where it differs from the host."""

    def changes(self, secrets: tuple[SecretFile, ...]) -> Iterator[Change]:
        """Every change."""
        for name, registry in self.config.registries.items():
            if registry.rewrites:
                yield from self._rewritten(name, len(registry.rewrites))
            yield from self._rules(name)
            yield from self._ports(name)
        for name in self.config.hosts:
            yield from self._secrets(name, secrets)
            yield from self._certificates(name)
        if ANY in self._mirrors() and ANY not in self.config.registries:
            message = '"*" without an endpoint stays on the node: it enables the embedded registry of k3s'
            yield Change(self.document.positions.key("mirrors", ANY), "info", message)

    def _rewritten(self, name: str, number: int) -> Iterator[Change]:
        where = self.positions.key("registries", name)
        count = f"{number} rule{'s' if number > 1 else ''}"
        yield Change(where, "changed", f"{count} of {name} moved from the node to the proxy's configuration")
        yield Change(
            where,
            "info",
            f"if a pull through the proxy fails, containerd requests the original name from {name} itself: on nodes "
            f"that run {_RELEASES}, set disable-default-registry-endpoint: true in "
            "config.yaml; other releases do not support it: omit it there, or k3s may not start (see docs/nodes.md)",
        )

    def _rules(self, name: str) -> Iterator[Change]:
        rewrite = self._mirror(name).get("rewrite")
        for pattern, template in rewrite.items() if isinstance(rewrite, dict) else ():
            if breaks_hosts_toml(pattern, str(template)):
                yield Change(
                    self.document.positions.key("mirrors", name, "rewrite", pattern),
                    "changed",
                    "this rule, and the whole mirror with it, never worked on nodes: k3s prints it unescaped into "
                    "hosts.toml, which containerd then cannot parse. In the proxy it works",
                )

    def _ports(self, name: str) -> Iterator[Change]:
        endpoints = self._mirror(name).get("endpoint")
        origin = None if name == ANY else default_endpoint(name).origin
        for index, text in enumerate(endpoints if isinstance(endpoints, list) and origin is not None else ()):
            if origin is not None and str(text).strip().rstrip("/").removesuffix("/v2") == f"{origin}:{origin.port}":
                yield Change(
                    self.document.positions.value("mirrors", name, "endpoint", index),
                    "changed",
                    f"the port :{origin.port}, which k3s needs to rewrite at the registry itself, is no longer needed",
                )

    def _secrets(self, name: str, secrets: tuple[SecretFile, ...]) -> Iterator[Change]:
        where = self._host(name, "credentials")
        for secret in secrets:
            if secret.host == name:
                message = (
                    f"the {secret.key} moved into the Secret {secret_name(secret.directory)}; the proxy reads a file"
                )
                yield Change(where, "changed", message)
        if self.config.hosts[name].credentials and not self.config.hosts[name].realms:
            yield Change(
                where,
                "info",
                f"if the token server is on another origin than {name}, realms must name it: scope-proxy doctor "
                "names that origin, --realm adds it",
            )

    def _certificates(self, name: str) -> Iterator[Change]:
        tls, where = self.config.hosts[name].tls, self._host(name, "tls")
        for file in (tls.ca_file, tls.cert_file, tls.key_file):
            if file is not None:
                yield Change(where, "question", f"{file} is a file of the node: is it there where the proxy runs?")
        if tls.insecure_skip_verify:
            yield Change(where, "info", f"the certificate of {name} is not verified, as before: set caFile instead")

    def _host(self, name: str, setting: str) -> Position:
        return self.positions.key("hosts", self.came_from.get(name, name), setting)

    def _mirror(self, name: str) -> dict[str, Value]:
        mirror = self._mirrors().get(name)
        return mirror if isinstance(mirror, dict) else {}

    def _mirrors(self) -> dict[str, Value]:
        mirrors = self.document.value.get("mirrors") if isinstance(self.document.value, dict) else None
        return mirrors if isinstance(mirrors, dict) else {}
