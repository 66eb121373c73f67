"""Our configuration as people write it: what is set, and nothing that is the default anyway."""

import io
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML

from proxy.config.model import Config
from proxy.convert.result import SecretFile
from proxy.convert.secret_files import manifests, secret_name

_WIDTH = 100_000  # no line is broken


def settings_of(config: Config) -> dict[str, Any]:
    """What of a configuration is not the default; a single value in place of a list of one where that is usual."""
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
    folders = dict.fromkeys(secret.folder for secret in secrets)
    if folders:
        values["secrets"] = {folder: {"secretName": secret_name(folder)} for folder in folders}
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
