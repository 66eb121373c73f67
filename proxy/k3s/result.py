"""The result of a conversion: configuration, changes and secrets, and their YAML."""

import base64
import hashlib
import io
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ruamel.yaml import YAML

from proxy.config.errors import Note, Position
from proxy.config.model import ANY, Config, Credential, Host


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a conversion."""

    proxies: tuple[str, ...] = ("http://127.0.0.1:5000",)
    """The proxy's URLs on the nodes."""
    ca_file: str | None = None
    """The CA of https proxies, a path on the node."""
    secrets_directory: str = "/etc/scope-proxy/secrets"
    """The directory of the proxy's secrets."""
    realms: tuple[tuple[str, str], ...] = ()
    """Token servers on another origin than the registry: host and origin."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One change: its position in the old file, what changed and why.

    A `question` is for the operator to answer; it makes the exit status 1.
    """

    position: Position
    kind: Literal["changed", "question", "info"]
    message: str

    def __str__(self) -> str:
        """`file:line:column: kind: message`."""
        return f"{self.position}: {self.kind}: {self.message}"

    @classmethod
    def of(cls, note: Note) -> "Change":
        """What a note of the importer says; what it warns of is for the operator to judge."""
        return cls(note.position, "question" if note.severity == "warning" else "info", note.message)


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret value of a host that moves out: `directory` and `key` name the file, and the Secret that holds it."""

    host: str
    directory: str
    key: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Conversion:
    """The conversion of one `registries.yaml`; only `secrets` contains secrets."""

    config: Config
    secrets: tuple[SecretFile, ...]
    node: str
    """The node's new registries.yaml."""
    changes: tuple[Change, ...]

    @property
    def questions(self) -> int:
        """The number of changes that the operator has to decide."""
        return sum(change.kind == "question" for change in self.changes)


_MAX_DIRECTORY, _TAIL = 40, 8
_KEYS = (("password", "password"), ("identity_token", "identity-token"))


def move_secrets(config: Config, mount: str) -> tuple[Config, tuple[SecretFile, ...]]:
    """The configuration with a file in place of each secret, below the directory `mount`; and those files."""
    files: list[SecretFile] = []
    hosts = {}
    for name, host in config.hosts.items():
        directory = _directory(name, {file.directory for file in files})
        hosts[name] = _moved(name, host, directory, mount, files)
    return config.model_copy(update={"hosts": hosts}), tuple(files)


def secret_name(directory: str) -> str:
    """The name of a directory's Secret."""
    return f"scope-proxy-{directory}"


def manifests(files: Sequence[SecretFile]) -> list[dict[str, Any]]:
    """A Secret for each directory, with the values in base64 under `data`."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret_name(directory)},
            "type": "Opaque",
            "data": {
                file.key: base64.b64encode(file.value.encode()).decode()
                for file in files
                if file.directory == directory
            },
        }
        for directory in dict.fromkeys(file.directory for file in files)
    ]


def _directory(host: str, taken: Collection[str]) -> str:
    """A name that the chart, Kubernetes and a path can have: lower-case letters, digits and hyphens, not too long."""
    plain = "any" if host == ANY else re.sub(r"[^a-z0-9]+", "-", host.lower()).strip("-")
    if len(plain) <= _MAX_DIRECTORY and plain not in taken:
        return plain
    tail = hashlib.sha256(host.encode()).hexdigest()[:_TAIL]
    return f"{plain[: _MAX_DIRECTORY - _TAIL - 1].strip('-')}-{tail}"


def _moved(name: str, host: Host, directory: str, mount: str, files: list[SecretFile]) -> Host:
    """A registries.yaml gives a host one credential at the most."""
    credentials = tuple(_without_secret(name, credential, directory, mount, files) for credential in host.credentials)
    return host.model_copy(update={"credentials": credentials})


def _without_secret(
    host: str, credential: Credential, directory: str, mount: str, files: list[SecretFile]
) -> Credential:
    for setting, key in _KEYS:
        secret = getattr(credential, setting)
        if secret is not None:
            files.append(SecretFile(host, directory, key, secret.get_secret_value()))
            path = f"{mount.rstrip('/')}/{directory}/{key}"
            return credential.model_copy(update={setting: None, f"{setting}_file": path})
    return credential


_WIDTH = 100_000  # no line is broken


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that differ from the defaults; a single value for a list of one where that is usual."""
    settings: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for registry in settings.get("registries", {}).values():
        endpoints = registry.get("endpoints", [])
        registry.update({"endpoints": [_short(endpoint) for endpoint in endpoints]} if endpoints else {})
    for host in settings.get("hosts", {}).values():
        if len(host.get("credentials", ())) == 1:
            host["credentials"] = host["credentials"][0]
    return settings


def render_config(config: Config) -> str:
    """The configuration's file."""
    return as_yaml([settings_of(config)])


def render_values(config: Config, secrets: Iterable[SecretFile]) -> str:
    """The same as values of the chart, with the Secrets that it mounts."""
    settings = settings_of(config)
    listeners = settings.pop("listeners", ())  # the chart makes them
    values: dict[str, Any] = {"config": settings}
    if listeners:
        values["node"] = {"port": int(listeners[0]["address"].rpartition(":")[2])}
    directories = dict.fromkeys(secret.directory for secret in secrets)
    if directories:
        values["secrets"] = {directory: {"secretName": secret_name(directory)} for directory in directories}
    return as_yaml([values])


def render_secrets(secrets: tuple[SecretFile, ...]) -> str:
    """The manifests of the Secrets."""
    return as_yaml(manifests(secrets))


def as_yaml(documents: Iterable[Any]) -> str:
    """Documents of one file."""
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    for number, document in enumerate(documents):
        if number:
            stream.write("---\n")
        yaml.dump(document, stream)
    return stream.getvalue()


def _short(endpoint: dict[str, Any]) -> Any:
    return endpoint["url"] if set(endpoint) == {"url"} else endpoint
