"""The generated files of the chart: the values in its README, its icon, and the schema of the value `config`."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator
from ruamel.yaml import YAML

from proxy.config.base import as_list, parse_duration, parse_rate, parse_size
from proxy.config.listener import Clients
from proxy.config.model import Config

CHART = Path(__file__).parents[2] / "helm" / "scope-proxy"
BEGIN, END = "<!-- Values: made by `make reference` from values.yaml -->", "<!-- End of values -->"

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?P<rest>.*)$")
_PATTERNS: dict[Any, str] = {
    parse_duration: r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$",
    parse_size: r"^[0-9]{1,9}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti)$",
    parse_rate: r"^[0-9]{1,9}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti)/s$",
}
"""Pattern of each kind of value with a unit, by its parser."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value and its documentation in values.yaml."""

    path: str
    description: str
    is_section: bool
    """Whether it contains values with their own documentation."""


def documented(text: str) -> Iterator[Value]:
    """The values of values.yaml in order; a value without a comment has an empty description."""
    lines = text.splitlines()
    path: list[str] = []
    comment: list[str] = []
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#"):
            comment.append(line.strip(" #"))
            continue
        match = _KEY.match(line)
        if match is not None:
            del path[len(match["indent"]) // 2 :]
            path.append(match["key"])
            after = next((below for below in lines[number + 1 :] if below.strip()), "")
            is_section = not match["rest"].strip() and not after.lstrip().startswith("- ")
            yield Value(".".join(path), " ".join(comment), is_section)
        comment = []


def default_of(values: Any, path: str) -> Any:
    """The default of a value."""
    for key in path.split("."):
        values = values[key]
    return values


def table(text: str) -> str:
    """The values as a Markdown table."""
    values = YAML(typ="safe", pure=True).load(text)
    rows = ["| value | default | meaning |", "| --- | --- | --- |"]
    for value in documented(text):
        default = "" if value.is_section else f"`{json.dumps(default_of(values, value.path))}`"
        rows.append(f"| `{value.path}` | {default} | {value.description.replace('|', '&#124;')} |")
    return "\n".join(rows)


def readme(current: str, values: str) -> str:
    """The chart's README with the current values."""
    before, _, rest = current.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table(values)}\n\n{END}{rest.partition(END)[2]}"


def schema(current: str) -> str:
    """The chart's schema, with the models of the configuration."""
    document = json.loads(current)
    kept = {name: value for name, value in document["definitions"].items() if name[0].islower()}
    document["definitions"] = {**kept, **definitions()}
    return json.dumps(document, indent=2) + "\n"


def definitions() -> dict[str, Any]:
    """The models of the configuration as JSON schemas (draft 7, which Helm 3 reads)."""
    made: dict[str, Any] = {}
    roots: tuple[type[BaseModel], ...] = (Config, Clients)
    for model in roots:
        whole = model.model_json_schema(by_alias=True, mode="serialization", ref_template="#/definitions/{model}")
        made |= whole.pop("$defs", {})
        made[model.__name__] = whole
    for name in ("Admin", "Listener", "ListenerTls"):  # the chart sets these
        made.pop(name, None)
    for name in ("listeners", "admin"):  # a sentence describes them instead
        made["Config"]["properties"][name] = {}
    for model in _models(Config):
        if model.__name__ in made:
            made[model.__name__] = _plain(made[model.__name__], model)
    del made["Cache"]["required"]  # the chart sets the path of the cache
    made["Registry"]["properties"]["endpoints"]["items"] = {
        "anyOf": [{"type": "string"}, {"$ref": "#/definitions/Endpoint"}]
    }
    return dict(sorted(made.items()))


def _models(start: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and all models in its fields."""
    models: list[type[BaseModel]] = []
    pending: list[Any] = [start]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind in models:
                continue
            models.append(kind)
            pending += [field.annotation for field in kind.model_fields.values()]
        pending += get_args(kind)
    return models


def _plain(made: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The schema of what an operator writes: a single value may replace a list, and defaults are not required."""
    made.pop("title", None)
    made["required"] = [str(field.alias) for field in model.model_fields.values() if field.is_required()]
    if not made["required"]:
        del made["required"]
    for field in model.model_fields.values():
        name = str(field.alias)
        shape = _written(made["properties"][name])
        readers = [item.func for item in field.metadata if isinstance(item, BeforeValidator)]
        for reader, pattern in _PATTERNS.items():
            if reader in readers:
                shape["pattern"] = pattern
        if as_list in readers:
            shape = {"anyOf": [shape["items"], shape], "description": shape.pop("description", "")}
        made["properties"][name] = shape
    return made


def _written(shape: Any) -> Any:
    """A part of a schema without keywords that do not apply to the file."""
    if isinstance(shape, list):
        return [_written(item) for item in shape]
    if not isinstance(shape, dict):
        return shape
    some = [other for other in shape.get("anyOf", []) if other != {"type": "null"}]
    if len(some) == 1:  # null means that the key is missing: Helm removes such keys
        shape = {**{key: value for key, value in shape.items() if key != "anyOf"}, **some[0]}
    left_out = {"title", "default", "writeOnly", "format", "gt", "le", "minLength"}
    return {key: _written(value) for key, value in shape.items() if key not in left_out}


def chart_yaml(current: str, icon: bytes) -> str:
    """Chart.yaml with the icon embedded, so that chart listings display it."""
    data = base64.b64encode(icon).decode()
    return re.sub(r"^icon:.*$", f"icon: data:image/svg+xml;base64,{data} # icon.svg", current, flags=re.MULTILINE)


def chart_files() -> dict[Path, str]:
    """The generated files of the chart with their content."""
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    return {
        CHART / "README.md": readme((CHART / "README.md").read_text(encoding="utf-8"), values),
        CHART / "values.schema.json": schema((CHART / "values.schema.json").read_text(encoding="utf-8")),
        CHART / "Chart.yaml": chart_yaml(
            (CHART / "Chart.yaml").read_text(encoding="utf-8"), (CHART / "icon.svg").read_bytes()
        ),
    }
