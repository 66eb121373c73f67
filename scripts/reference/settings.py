"""The tables of all settings in docs/configuration.md, generated from the models."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proxy.config.base import (
    Model,
    Restart,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
    restart_mark,
)
from proxy.config.model import Config
from proxy.config.reading.shape import section_in
from proxy.rules.image_pattern import ImagePattern

_UNITS: Mapping[str, tuple[Callable[[object], float], Callable[[Any], str]]] = {
    "duration": (parse_duration, format_duration),
    "size": (parse_size, format_size),
    "rate": (parse_rate, format_rate),
}
"""Parser and formatter of each kind of value with a unit."""

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
MARKER = "<!-- All that follows is made by `make reference`: change the models, not this text. -->"
"""Separates the hand-written part from the generated part."""
RESTART = (
    "A running proxy reloads a changed configuration without a restart. Settings with `yes` in the column `restart`\n"
    "take effect only after a restart: the log and the status page name them, and the Helm chart replaces its pods.\n"
    "If a setting is the path of a file, this applies to the path; a file with changed content is read again."
)


def render_reference() -> str:
    """The generated part: every section with its settings, as Markdown."""
    return "\n".join([MARKER, "", "## Settings", "", RESTART, "", *_sections()])


def page() -> str:
    """The whole page: the hand-written part of the file, and the generated part."""
    return PAGE.read_text(encoding="utf-8").partition(MARKER)[0] + render_reference()


def _sections() -> Iterator[str]:
    queue: list[tuple[str, type[Model], Restart | None]] = [("", Config, None)]
    done: set[type[Model]] = set()
    while queue:
        prefix, section, mark = queue.pop(0)
        if section in done:
            continue
        done.add(section)
        yield from _section(prefix, section, mark)
        for name, field in section.model_fields.items():
            inner = section_in(field.annotation)
            if inner is not None:
                path = f"{prefix}{field.alias or name}{_entry(field.annotation)}."
                queue.append((path, inner, mark or restart_mark(field)))


def _section(prefix: str, section: type[Model], mark: Restart | None) -> Iterator[str]:
    yield f"### {f'`{prefix[:-1]}`' if prefix else 'Top level'}"
    yield ""
    yield inspect.cleandoc(section.__doc__ or "")
    yield ""
    yield "| setting | values | default | restart | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for name, field in section.model_fields.items():
        yield _row(field.alias or name, field, mark or restart_mark(field))
    yield ""


def _row(key: str, field: FieldInfo, mark: Restart | None) -> str:
    meaning = re.sub(r"\s+", " ", field.description or "")
    cells = (f"`{key}`", _values(field), _default(field), _restart(field, mark), meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _restart(field: FieldInfo, mark: Restart | None) -> str:
    if mark is not None:
        return "yes" if mark.word is None else f"for `{mark.word}`"
    section = section_in(field.annotation)
    return "as below" if section is not None and _has_marks(section) else ""


def _has_marks(section: type[Model]) -> bool:
    inner = (section_in(field.annotation) for field in section.model_fields.values())
    return any(restart_mark(field) is not None for field in section.model_fields.values()) or any(
        found is not None and _has_marks(found) for found in inner
    )


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
    names = {str: "text", SecretStr: "text", bool: "`true`, `false`", int: "number", float: "number"}
    names[ImagePattern] = "image pattern"
    return names.get(annotation, "section")


def _unit(field: FieldInfo) -> str | None:
    """The kind of unit of a setting; None if it has no unit."""
    parsers = {getattr(item, "func", None) for item in field.metadata}
    return next((unit for unit, (parser, _) in _UNITS.items() if parser in parsers), None)


def default_of(field: FieldInfo) -> Any:
    """The default of a setting as written in a file; PydanticUndefined if it is required."""
    unit = _unit(field)
    if unit is None or field.default is PydanticUndefined:
        return field.default
    return _UNITS[unit][1](field.default)


def _default(field: FieldInfo) -> str:
    default = default_of(field)
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, str | int | float):
        return f"`{default}`"
    return "as below" if default else "empty"
