"""YAML to models, every error with file, line and column; settings of the command line; the configuration in force."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from proxy.config.checks.validate import validate, validate_servers
from proxy.config.credentials import SecretError, SecretReader
from proxy.config.errors import ConfigError, Findings, KeyPath, Note, Position, Positions, Problem
from proxy.config.files import read_source
from proxy.config.listener import Listener
from proxy.config.model import Admin, Config, Credential
from proxy.config.reading.advice import SECRETS, registries_yaml, variable_advice, warn_of_values
from proxy.config.reading.shape import Shaped, shape
from proxy.config.reading.yaml_values import Document, read_document


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, where its parts are written, and what the operator should know of it."""

    config: Config
    positions: Positions
    notes: tuple[Note, ...]


__all__ = ["ConfigError", "Loaded", "Note", "Position", "Positions", "Problem", "load_config", "parse_config"]


def load_config(path: Path) -> Loaded:
    """Read a configuration file; raises ConfigError with every problem."""
    return parse_config(read_source(path), str(path))


def parse_config(text: str, file: str) -> Loaded:
    """Read a configuration from its text; `file` is what messages call it. Raises ConfigError."""
    document = read_document(text, file)
    if document.value is None and not document.problems:
        raise ConfigError([Problem(Position(file), 'the file is empty: the least it needs is "version: 1"')])
    if (problem := registries_yaml(document.value, document.positions)) is not None:
        raise ConfigError([problem])
    shaped = shape(document.value, document.positions)
    findings = Findings(document.positions)
    if shaped.config is not None:
        validate(shaped.config, findings)
        warn_of_values(document.value, findings)
    return _loaded(document, shaped, findings)


def _loaded(document: Document, shaped: Shaped, findings: Findings) -> Loaded:
    """The configuration; raises ConfigError. A value that YAML cannot read, or a variable, is the only error there."""
    advice = variable_advice(document.value, document.positions)
    unread = {problem.position for problem in document.problems}
    problems = [each for each in (*shaped.problems, *findings.problems) if each.position not in unread]
    problems += [*document.problems, *document.duplicates]
    if problems or shaped.config is None:
        raise ConfigError(replace(each, message=advice.get(each.position, each.message)) for each in problems)
    findings.notes = [replace(each, message=advice.get(each.position, each.message)) for each in findings.notes]
    return Loaded(shaped.config, document.positions, findings.sorted_notes())


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses that replace those of the configuration; None keeps what it says."""

    listen: str | None = None
    admin: str | None = None
    metrics: str | None = None


def with_addresses(loaded: Loaded, addresses: Addresses) -> Loaded:
    """The configuration with other addresses to listen on, for nodes and for the operator.

    Raises ValueError for what is no address, and ConfigError where the address cannot be used with the rest.
    """
    changes: dict[str, object] = {}
    try:
        if addresses.listen is not None:
            first = loaded.config.listeners[0]
            changes["listeners"] = (Listener(address=addresses.listen, tls=first.tls, clients=first.clients),)
        if addresses.admin is not None or addresses.metrics is not None:
            changes["admin"] = _admin(loaded.config.admin, addresses)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ValueError(message.removeprefix("Value error, ")) from None
    config = loaded.config.model_copy(update=changes)
    findings = Findings(loaded.positions)
    validate_servers(config, findings)
    if findings.problems:
        raise ConfigError(findings.problems)
    return replace(loaded, config=config)


def _admin(configured: Admin | None, addresses: Addresses) -> Admin:
    """The operator's addresses; raises ValueError."""
    if configured is None and addresses.admin is None:
        raise ValueError("--metrics adds an address to admin, which is null in the configuration: give --admin as well")
    before = configured or Admin()
    address = addresses.admin if addresses.admin is not None else before.address
    metrics = addresses.metrics if addresses.metrics is not None else before.metrics_address
    return Admin.model_validate({"address": address, "metricsAddress": metrics})


def check_secrets(loaded: Loaded, environment: Mapping[str, str] | None = None) -> tuple[Note, ...]:
    """A warning for each secret that cannot be read now; reads the files and variables that are named."""
    findings = Findings(loaded.positions)
    reader = SecretReader(environment)
    for path, credential in _credentials(loaded):
        try:
            reader.read(credential)
        except SecretError as error:
            findings.warning((*path, error.setting), str(error))
    return findings.sorted_notes()


def _credentials(loaded: Loaded) -> Iterator[tuple[KeyPath, Credential]]:
    for name, host in loaded.config.hosts.items():
        for index, credential in enumerate(host.credentials):
            yield ("hosts", name, "credentials", index), credential


HIDDEN = "<set>"
"""Stands for a secret value."""
_WIDTH = 100_000  # no line is broken


def render_effective(loaded: Loaded) -> str:
    """Every setting with its value, defaults included; a secret is only said to be set."""
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_settings(loaded.config), stream)
    return stream.getvalue()


def _settings(config: Config) -> dict[str, Any]:
    settings: dict[str, Any] = _shown(config.model_dump(mode="json", by_alias=True))
    if config.admin is None:
        settings["admin"] = None  # means "none", where a missing key means the default
    return settings


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: HIDDEN if key in SECRETS and isinstance(inner, str) else _shown(inner)
            for key, inner in value.items()
            if inner is not None
        }
    return [_shown(inner) for inner in value] if isinstance(value, list) else value
