"""Loads a configuration from YAML, applies addresses of the command line, and renders the effective settings."""

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
    """A valid configuration, the positions of its settings, and notes for the operator."""

    config: Config
    positions: Positions
    notes: tuple[Note, ...]


__all__ = ["ConfigError", "Loaded", "Note", "Position", "Positions", "Problem", "load_config", "parse_config"]


def load_config(path: Path) -> Loaded:
    """Read a configuration file; raises ConfigError with every problem."""
    return parse_config(read_source(path), str(path))


def parse_config(text: str, file: str) -> Loaded:
    """Read a configuration from its text; `file` is its name in messages. Raises ConfigError with every problem."""
    document = read_document(text, file)
    if document.value is None and not document.problems:
        raise ConfigError([Problem(Position(file), 'the file is empty: write at least "version: 1"')])
    if (problem := registries_yaml(document.value, document.positions)) is not None:
        raise ConfigError([problem])
    shaped = shape(document.value, document.positions)
    findings = Findings(document.positions)
    if shaped.config is not None:
        validate(shaped.config, findings)
        warn_of_values(document.value, findings)
    return _loaded(document, shaped, findings)


def _loaded(document: Document, shaped: Shaped, findings: Findings) -> Loaded:
    """The configuration; raises ConfigError, with one error for each unreadable value or environment variable."""
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
    """Addresses that replace those of the configuration; None keeps the configured one."""

    listen: str | None = None
    admin: str | None = None
    metrics: str | None = None


def with_addresses(loaded: Loaded, addresses: Addresses) -> Loaded:
    """The configuration with other listening addresses, for nodes and for the operator.

    Raises ValueError for an invalid address, and ConfigError if the address conflicts with another setting.
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
    """The admin section with other addresses; raises ValueError."""
    if configured is None and addresses.admin is None:
        raise ValueError("--metrics needs admin, which is null in the configuration: use --admin as well")
    before = configured or Admin()
    address = addresses.admin if addresses.admin is not None else before.address
    metrics = addresses.metrics if addresses.metrics is not None else before.metrics_address
    return Admin.model_validate({"address": address, "metricsAddress": metrics})


def check_secrets(loaded: Loaded, environment: Mapping[str, str] | None = None) -> tuple[Note, ...]:
    """A warning for each secret that cannot be read now; reads the configured files and environment variables."""
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
"""The text in place of a secret value."""
_WIDTH = 100_000  # so that no line is wrapped


def render_effective(loaded: Loaded) -> str:
    """Every setting with its value, including defaults, as YAML without secret values."""
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_settings(loaded.config), stream)
    return stream.getvalue()


def _settings(config: Config) -> dict[str, Any]:
    settings: dict[str, Any] = _masked(config.model_dump(mode="json", by_alias=True))
    if config.admin is None:
        settings["admin"] = None  # means "none", where a missing key means the default
    return settings


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: HIDDEN if key in SECRETS and isinstance(inner, str) else _masked(inner)
            for key, inner in value.items()
            if inner is not None
        }
    return [_masked(inner) for inner in value] if isinstance(value, list) else value
