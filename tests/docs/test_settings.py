"""No page names a setting that does not exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from proxy.config.base import Model
from proxy.config.model import Config
from proxy.config.reading.shape import is_collection, section_in, settings
from tests.docs.pages import ROOT, code, named, pages

OTHERS = {"imagePullSecret", "podPidsLimit", "requestId"}
"""Words in the same spelling that are no settings of ours."""

REMOVED = {"node.adminAddress"}
"""Settings of earlier releases, which the CHANGELOG alone names: operators search it for what they have."""
CHANGELOG = ROOT / "CHANGELOG.md"

CHART = ROOT / "helm" / "scope-proxy"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

_CAMEL = re.compile(r"[a-z]+(?:[A-Z][a-z0-9]+)+")
_DOTTED = re.compile(r"[a-z]\w*(?:\[\])?(?:\.(?:\w+(?:\[\])?|<\w+>|\"[^\"]*\"))+")
_FILE = re.compile(r"\.(?:py|yaml|yml|toml|json|conf|md|txt|lock)$")


def all_settings(section: type[Model] = Config) -> set[str]:
    """The keys of all sections."""
    inner = (section_in(annotation) for annotation in settings(section).values())
    return set(settings(section)).union(*(all_settings(found) for found in inner if found is not None))


def all_values(section: type[Model] = Config) -> set[str]:
    """The words that settings take as their values."""
    inner = (section_in(annotation) for annotation in settings(section).values())
    own = {str(value) for annotation in settings(section).values() for value in get_args(annotation)}
    return own.union(*(all_values(found) for found in inner if found is not None))


def is_setting(path: str) -> bool:
    """Whether a path such as `hosts.<host>.realms` leads to a setting; the entry of a list or map may be left out."""
    current: type[Model] | None = Config
    entry = False  # whether the next step may be the name of an entry
    for step in re.findall(r"<\w+>|\"[^\"]*\"|\w+", path):
        keys = settings(current) if current is not None else {}
        if step in keys:
            entry, current = is_collection(keys[step]), section_in(keys[step])
        elif entry:
            entry = False
        else:
            return False
    return True


def chart_words(part: Any = SCHEMA) -> Iterator[str]:
    """The keys of the chart's values, and the words that they take."""
    if isinstance(part, list):
        for item in part:
            yield from chart_words(item)
    if isinstance(part, dict):
        yield from part.get("properties", {})
        yield from (str(word) for word in part.get("enum", []))
        for value in part.values():
            yield from chart_words(value)


def is_value(path: str) -> bool:
    """Whether a path leads to a value of the chart, or through `config` to a setting."""
    if path.startswith("config."):
        return is_setting(path.removeprefix("config."))
    part: Any = VALUES
    for step in path.split("."):
        if not isinstance(part, dict) or step not in part:
            return False
        part = part[step]
    return True


def unknown_settings(page: Path) -> set[str]:
    """What a page names like a setting or a value of the chart, and does not exist."""
    spans = code(page)
    camel = {word for span in spans for word in _CAMEL.findall(span) if span == word or f"{word}:" in span}
    dotted = {span for span in spans if _DOTTED.fullmatch(span) and not _FILE.search(span)}
    paths = {span for span in dotted if span.split(".")[0].removesuffix("[]") in settings(Config)}
    values = {span for span in dotted - paths if span.split(".")[0] in VALUES.keys() - all_settings()}
    unknown = camel - all_settings() - all_values() - set(chart_words()) - OTHERS
    unknown |= {path for path in paths if not is_setting(path)} | {path for path in values if not is_value(path)}
    return unknown - (REMOVED if page == CHANGELOG else set())


def test_every_setting_that_a_page_names_exists() -> None:
    found = {named(page): unknown_settings(page) for page in pages()}
    assert {page: unknown for page, unknown in found.items() if unknown} == {}


def test_an_unknown_setting_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`tagAge` `tagAges` `timeouts.manifest` `timeouts.manifests` `node.cache.maximum` `node.adminAddress`\n"
    )
    assert unknown_settings(page) == {"tagAges", "timeouts.manifests", "node.cache.maximum", "node.adminAddress"}


def test_the_changelog_names_the_removed_settings() -> None:
    assert [path for path in REMOVED if is_setting(path) or is_value(path)] == []
    assert set(code(CHANGELOG)) >= REMOVED


@pytest.mark.parametrize(
    ("path", "exists"),
    [
        ("timeouts.manifest", True),
        ("hosts.<host>.realms", True),
        ("listeners[].clients", True),
        ("hosts.<host>.tls.caFile", True),
        ("timeouts.manifests", False),
        ("hosts.<host>.realm", False),
    ],
)
def test_paths_are_distinguished_from_others(path: str, exists: bool) -> None:
    assert is_setting(path) is exists


@pytest.mark.parametrize(
    ("path", "exists"),
    [
        ("node.cache.maxSize", True),
        ("config.timeouts.manifest", True),
        ("node.cache.maximum", False),
        ("config.timeouts.manifests", False),
    ],
)
def test_values_of_the_chart_are_distinguished_from_others(path: str, exists: bool) -> None:
    assert is_value(path) is exists
