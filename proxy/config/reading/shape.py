"""From plain values to models; turns pydantic's errors into messages with a position."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.config.base import Model
from proxy.config.errors import KeyPath, Position, Positions, Problem, quoted_key, unknown_key
from proxy.config.model import Config, Credential
from proxy.config.reading.advice import SECRETS, converted_rewrites, registries_key
from proxy.config.reading.yaml_values import Value


def section_at(path: KeyPath) -> type[Model] | None:
    """The section at a path; None if there is none."""
    section: type[Model] = Config
    steps: Iterator[str | int] = iter(path)
    for step in steps:
        annotation = settings(section).get(str(step))
        inner = None if annotation is None else section_in(annotation)
        if inner is None:
            return None
        section = inner
        if is_collection(annotation):
            next(steps, None)  # the name or the index of the entry
    return section


def keys_at(path: KeyPath) -> tuple[str, ...]:
    """The keys of a section, as written in the file."""
    section = section_at(path)
    return () if section is None else tuple(settings(section))


def settings(section: type[Model]) -> dict[str, Any]:
    """The keys of a section with their annotations."""
    return {field.alias or name: field.annotation for name, field in section.model_fields.items()}


def section_in(annotation: Any) -> type[Model] | None:
    """The section in an annotation such as `tuple[Endpoint, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part)) is not None), None)


def is_collection(annotation: Any) -> bool:
    """Whether the setting is a map or list, so that an entry has a name or an index."""
    return get_origin(annotation) in {tuple, dict} or any(
        get_origin(part) in {tuple, dict} for part in get_args(annotation)
    )


_KEY = "[key]"  # pydantic's mark of an invalid key
_PLAIN = {
    "literal_error": "the value must be {expected}",
    "bool_type": "write true or false, without quotes",
    "int_type": "the value must be a whole number",
    "float_type": "the value must be a number",
    "float_parsing": "the value must be a number",
    "too_short": "at least {min_length} is needed",
}


@dataclass(frozen=True, slots=True)
class Shaped:
    """The configuration without its invalid entries (None if too little is left), and the problems."""

    config: Config | None
    problems: tuple[Problem, ...] = ()


def shape(value: Value, positions: Positions) -> Shaped:
    """Build the configuration, if necessary without invalid entries, so that the others are checked too."""
    try:
        return Shaped(Config.model_validate(value))
    except ValidationError as error:
        details = _innermost(error.errors(include_url=False, include_input=False))
    problems = tuple(_problem(detail, value, positions) for detail in details)
    return Shaped(_without(value, [detail["loc"] for detail in details]), problems)


def _innermost(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """The errors without "too short" for a list that is too short only because its items are invalid."""
    paths = [detail["loc"] for detail in details]
    return [
        detail
        for detail, path in zip(details, paths, strict=True)
        if detail["type"] != "too_short" or not any(other[: len(path)] == path != other for other in paths)
    ]


def _without(value: Value, wrong: list[KeyPath]) -> Config | None:
    """The configuration without the entries that contain an error."""
    rest: Any = deepcopy(value)
    if not isinstance(rest, dict):
        return None
    rest["version"] = 1
    for path in wrong:
        _remove(rest, path)
    try:
        return Config.model_validate(rest)
    except ValidationError:
        return None


def _remove(rest: dict[str, Any], path: KeyPath) -> None:
    """Remove the entry that contains a path: one entry of a map, else the whole section."""
    top = str(path[0]) if path else ""
    entries = rest.get(top)
    if isinstance(entries, dict) and len(path) > 1:
        entries.pop(path[1], None)
    elif top != "version":
        rest.pop(top, None)


def _problem(detail: ErrorDetails, value: Value, positions: Positions) -> Problem:
    path = detail["loc"]
    if path and path[-1] == _KEY:
        return Problem(positions.key(*path[:-1]), _message(detail, None))
    if detail["type"] == "extra_forbidden":
        where, known = positions.key(*path), keys_at(path[:-1])
        if len(path) == 1 and (advice := registries_key(str(path[0]))) is not None:
            return Problem(where, advice)
        if path[-1] == "rewrite" and "rewrites" in known:
            lines = converted_rewrites(_value_at(value, path), where)
            if lines is not None:
                return Problem(where, f"unknown key 'rewrite': {lines}")
        secret = section_at(path[:-1]) is Credential
        return Problem(where, unknown_key(str(path[-1]), known, secret=secret))
    if detail["type"] == "missing":
        return Problem(_parent(positions, path), f"{path[-1]} is missing")
    written = _value_at(value, path)
    lines = converted_rewrites(written, positions.key(*path)) if path[-1:] == ("rewrites",) else None
    message = lines or _message(detail, written)
    return Problem(positions.value(*path), message)


def _parent(positions: Positions, path: KeyPath) -> Position:
    return positions.key(*path[:-1]) if len(path) > 1 else Position(positions.file)


def _value_at(value: Value, path: KeyPath) -> Value:
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        elif step != 0:  # one value instead of a list
            return None
    return value


def _message(detail: ErrorDetails, value: Value) -> str:
    context = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "value_error":
        return str(context["error"])
    if kind in {"string_type", "tuple_type", "model_type", "dict_type"}:
        return _other_type(kind, detail["loc"], value)
    if kind in {"greater_than_equal", "less_than_equal", "greater_than"}:
        return detail["msg"].replace("Input should be", "the value must be")
    return _PLAIN.get(kind, "the value has the wrong type").format(**context)


def _other_type(kind: str, path: KeyPath, value: Value) -> str:
    if kind == "string_type":
        return _text_expected(path, value)
    if kind == "tuple_type":
        return _list_expected(path, value)
    if value is None:
        return _no_value(path, "write {} for the defaults")
    return f"expected keys with values, found {_kind(value)}"


def _no_value(path: KeyPath, advice: str) -> str:
    name = quoted_key(path[-1]) if path and isinstance(path[-1], str) else "the entry"
    return f"{name} has no value: {advice}, or remove {name}"


def _text_expected(path: KeyPath, value: Value) -> str:
    if isinstance(value, bool | int | float):
        secret = path[-1] in SECRETS
        name = "a password or token" if secret else "the value"
        return f"{name} must be text: put it in quotes"
    return f"expected text, found {_kind(value)}"


def _list_expected(path: KeyPath, value: Value) -> str:
    if path[-1:] == ("rewrites",) and isinstance(value, dict):
        return (
            "rewrites are an ordered list, not a map as in registries.yaml: "
            "write '- {pattern: ..., replacement: ...}' for each rule"
        )
    if value is None:
        return _no_value(path, "write a list")
    return f"expected a list, found {_kind(value)}: write '- ' before each value"


def _kind(value: Value) -> str:
    if value is None:
        return "nothing"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a map"}
    return names[type(value)]
