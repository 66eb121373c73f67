"""Generates the chart's template of the settings that take effect only after a restart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proxy.config.base import Model, Restart, restart_mark
from proxy.config.listener import Listener
from proxy.config.model import Config
from proxy.config.reading.shape import is_collection, section_in
from scripts.reference.settings import default_of

TEMPLATE = Path(__file__).parents[2] / "helm" / "scope-proxy" / "templates" / "_restart.tpl"
HEAD = """\
{{/* Made by `make reference` from the marks in proxy/config: the settings that only a restart changes, with their
     defaults. Their hash is an annotation of the pods, so that a change replaces them. Argument: a configuration. */}}
{{- define "scope-proxy.restartSettings" -}}"""

Leaf = tuple[tuple[str, ...], FieldInfo, Restart]
"""The key path of a marked setting, the setting, and its mark."""


def marked(section: type[Model], keys: tuple[str, ...] = (), mark: Restart | None = None) -> Iterator[Leaf]:
    """The marked settings of a section, including those of marked sections; not those in lists and maps."""
    for name, field in section.model_fields.items():
        path = (*keys, field.alias or name)
        found = mark or restart_mark(field)
        inner = None if is_collection(field.annotation) else section_in(field.annotation)
        if inner is not None:
            yield from marked(inner, path, found)
        elif found is not None:
            yield path, field, found


def render_template() -> str:
    """The template; it renders one line for each setting."""
    lines = [HEAD]
    lines += [_line("", leaf) for leaf in marked(Config)]
    lines += ["{{- range .listeners }}", *(_line("listeners[].", leaf) for leaf in marked(Listener)), "{{- end }}"]
    return "\n".join([*lines, "{{- end -}}", ""])


def _line(prefix: str, leaf: Leaf) -> str:
    keys, field, mark = leaf
    name, value = prefix + ".".join(keys), _value(keys, field)
    if mark.word is None:
        return f"{name}: {{{{ {value} | toJson }}}}"
    word, words = json.dumps(mark.word), '(ternary (list .) . (kindIs "string" .))'
    kept = f"has {word} {words} }}}} {{{{ eq (toJson {words}) (toJson (list {word}))"
    return f"{name}: {{{{ with {value} }}}}{{{{ {kept} }}}}{{{{ end }}}}"


def _value(keys: tuple[str, ...], field: FieldInfo) -> str:
    """The expression for a setting: `dig` with its default; sections may be missing or null."""
    *sections, key = keys
    where = "."
    for section in sections:
        where = f'(dig "{section}" dict {where} | default dict)'
    return f'dig "{key}" {_literal(default_of(field))} {where}'


def _literal(default: Any) -> str:
    if default is PydanticUndefined or default is None:
        return '""'
    if isinstance(default, tuple):
        return f"(list {' '.join(json.dumps(item) for item in default)})"
    return json.dumps(default)
