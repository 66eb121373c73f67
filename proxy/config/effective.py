"""The configuration in force, as our own YAML and without secrets."""

import io
from typing import Any

from ruamel.yaml import YAML

from proxy.config.loaded import Loaded
from proxy.config.model import Config

HIDDEN = "<set>"
"""Stands for a secret value."""
_SECRETS = {"password", "identityToken"}
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
            key: HIDDEN if key in _SECRETS and isinstance(inner, str) else _shown(inner)
            for key, inner in value.items()
            if inner is not None
        }
    return [_shown(inner) for inner in value] if isinstance(value, list) else value
