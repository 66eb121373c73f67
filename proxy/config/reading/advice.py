"""Advice for users of other tools: environment variables, empty keys, a registries.yaml, maps of rewrites."""

import re
from collections.abc import Iterator, Mapping

from proxy.config.errors import Findings, KeyPath, Position, Positions, Problem, quoted_key, setting_name
from proxy.config.reading.yaml_values import Value

SECRETS = frozenset({"password", "identityToken"})
_NAMES_OF_VARIABLES = frozenset({"passwordEnv", "identityTokenEnv"})
_TEMPLATES = frozenset({"pattern", "replacement"})
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_BARE_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_NULL_MEANS = {"admin": " (no metrics, no health checks, no status page)", "cache": " (nothing is cached)"}


def registries_yaml(value: Value, positions: Positions) -> Problem | None:
    """The error if the file is a registries.yaml; None otherwise."""
    if not isinstance(value, dict) or "version" in value:
        return None
    key = next((key for key in ("mirrors", "configs") if key in value), None)
    if key is None:
        return None
    message = f"{key}: this is a registries.yaml of k3s: use --registries for this file, not --config"
    return Problem(positions.key(key), message)


def registries_key(key: str) -> str | None:
    """The error for a key of a registries.yaml in a configuration; None for any other key."""
    ours = {"mirrors": "registries", "configs": "hosts"}.get(key)
    if ours is None:
        return None
    return f"unknown key {key!r}, as in a registries.yaml of k3s: use --registries for such a file, or write {ours!r}"


def variable_advice(value: Value, positions: Positions) -> Mapping[Position, str]:
    """What to write instead of each environment variable, by its place: values, and names of registries and hosts."""
    advice = {positions.value(*path): text for path, each in _scalars(value, ()) if (text := _of_value(each, path))}
    for section in ("registries", "hosts"):
        entries = value.get(section) if isinstance(value, dict) else None
        for name in entries if isinstance(entries, dict) else ():
            if _VARIABLE.search(name):
                advice[positions.key(section, name)] = _not_replaced(quoted_key(name, _VARIABLE.sub("x", name)))
    return advice


def _of_value(value: Value, path: KeyPath) -> str | None:
    """The advice for a value; None for one without a variable."""
    if not isinstance(value, str) or path[-1] in _TEMPLATES:
        return None
    is_whole = _VARIABLE.fullmatch(value) or _BARE_VARIABLE.fullmatch(value)
    is_secret = any(step in SECRETS for step in path)
    if is_secret and not _VARIABLE.fullmatch(value):
        return None
    if is_whole and path[-1] in _NAMES_OF_VARIABLES:
        return f"{path[-1]} is the name of a variable: write {value.strip('${}')}"
    if is_whole or _VARIABLE.search(value):
        return _not_replaced("the value" if is_secret else repr(value))
    return None


def _not_replaced(written: str) -> str:
    return (
        f"environment variables are not replaced in {written}: write the value itself; only passwordEnv and "
        "identityTokenEnv read a variable"
    )


def converted_rewrites(value: Value, where: Position) -> str | None:
    """The `rewrites` to write instead of the map of a registries.yaml at `where`; None if it is no such map."""
    if not isinstance(value, dict) or not value:
        return None
    indent = " " * (where.column - 1)
    lines = [f"{indent}rewrites:"]
    for pattern, replacement in value.items():
        if not isinstance(replacement, str) or not (pattern + replacement).isprintable():
            return None
        lines.append(f"{indent}  - {{pattern: {_quoted(pattern)}, replacement: {_quoted(replacement)}}}")
    return "rewrites are a list; the first rule that changes the repository wins. Write:\n" + "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def warn_of_values(value: Value, findings: Findings) -> None:
    """Warn about environment variables, and about keys without a value, which YAML reads as null."""
    for path, each in _scalars(value, ()):
        if (advice := _of_value(each, path)) is not None:
            findings.warning(path, advice)
        if each is None and _has_no_value(path, findings.positions):
            meaning = _NULL_MEANS.get(setting_name(path), "")
            findings.warning(
                path,
                f"{setting_name(path)} has no value, which means null{meaning}: write {path[-1]}: null, or remove the "
                "key for the default",
            )


def _has_no_value(path: KeyPath, positions: Positions) -> bool:
    return isinstance(path[-1], str) and positions.value(*path) == positions.key(*path)


def _scalars(value: Value, path: KeyPath) -> Iterator[tuple[KeyPath, Value]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _scalars(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _scalars(inner, (*path, index))
    elif path:
        yield path, value
