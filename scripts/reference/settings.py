"""The tables of all settings in docs/configuration.md, generated from the models."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proxy.config.base import Model, format_duration, format_rate, format_size, parse_duration, parse_rate, parse_size
from proxy.config.model import Config
from proxy.config.reading.shape import section_in, settings

_UNITS: Mapping[str, tuple[Callable[[object], float], Callable[[Any], str]]] = {
    "duration": (parse_duration, format_duration),
    "size": (parse_size, format_size),
    "rate": (parse_rate, format_rate),
}
"""What is written with a unit: what reads it, and what writes it."""

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
MARKER = "<!-- All that follows is made by `make reference`: change the models, not this text. -->"
"""Separates what is written by hand from what is generated."""


def render_reference() -> str:
    """Every section with its settings, as Markdown."""
    return "\n".join([MARKER, "", "## Settings", "", *_sections()])


def page() -> str:
    """The page with its generated part up to date."""
    return PAGE.read_text(encoding="utf-8").partition(MARKER)[0] + render_reference()


def _sections() -> Iterator[str]:
    queue: list[tuple[str, type[Model]]] = [("", Config)]
    done: set[type[Model]] = set()
    while queue:
        prefix, section = queue.pop(0)
        if section in done:
            continue
        done.add(section)
        yield from _section(prefix, section)
        for key, annotation in settings(section).items():
            inner = section_in(annotation)
            if inner is not None:
                queue.append((f"{prefix}{key}{_entry(annotation)}.", inner))


def _section(prefix: str, section: type[Model]) -> Iterator[str]:
    yield f"### {f'`{prefix[:-1]}`' if prefix else 'Top level'}"
    yield ""
    yield inspect.cleandoc(section.__doc__ or "")
    yield ""
    yield "| setting | values | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for name, field in section.model_fields.items():
        yield _row(field.alias or name, field)
    yield ""


def _row(key: str, field: FieldInfo) -> str:
    meaning = re.sub(r"\s+", " ", field.description or "")
    cells = (f"`{key}`", _values(field), _default(field), meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _entry(annotation: Any) -> str:
    kinds = {get_origin(annotation), *(get_origin(part) for part in get_args(annotation))}
    if dict in kinds:
        return ".<name>"
    return "[]" if tuple in kinds else ""


def _values(field: FieldInfo) -> str:
    unit = _unit(field)
    if unit is not None:
        return unit
    return _kind(field.annotation)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"map of name to {_kind(arguments[1])}"
    if type(None) in arguments:
        return _kind(next(part for part in arguments if part is not type(None)))
    if origin is not None or hasattr(annotation, "__metadata__"):
        return _kind(arguments[0])
    names = {str: "text", SecretStr: "text", bool: "`true`, `false`", int: "number"}
    return names.get(annotation, "section")


def _unit(field: FieldInfo) -> str | None:
    """What a number is written in, if it has a unit."""
    parsers = {getattr(item, "func", None) for item in field.metadata}
    return next((unit for unit, (parser, _) in _UNITS.items() if parser in parsers), None)


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    unit = _unit(field)
    if unit is not None:
        return f"`{_UNITS[unit][1](default)}`"
    if default is None:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, str | int):
        return f"`{default}`"
    return "as below" if default else "empty"
