"""docs/architecture.md draws the packages as they are."""

import re
import tomllib

from tests.docs.pages import ROOT, section

PACKAGE = ROOT / "proxy"
PAGE = ROOT / "docs/architecture.md"
WORDS_LIMIT = 1500


def layers() -> list[list[str]]:
    """The layers that import-linter checks, from above."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [line.split(" | ") for line in next(item["layers"] for item in contracts if "layers" in item)]


def test_the_layers_are_those_that_are_checked() -> None:
    drawn = re.findall(r"```\n(.*?)\n```", section("docs/architecture.md", "Layers"), re.DOTALL)
    assert [line.split(" | ") for line in drawn[0].splitlines()] == layers()


def test_every_package_is_described() -> None:
    described = set(re.findall(r"\*\*`(\w+)`\*\*", section("docs/architecture.md", "Packages")))
    assert described == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_every_file_that_is_named_exists() -> None:
    text = PAGE.read_text()
    named = {name for name in re.findall(r"\b([a-z_0-9]+(?:/[a-z_0-9]+)+)\b", text) if (PACKAGE / name).parent.is_dir()}
    named = {name for name in named if name.split("/")[0] in {path.name for path in PACKAGE.iterdir()}}
    assert len(named) > 30
    assert [
        name for name in sorted(named) if not (PACKAGE / f"{name}.py").is_file() and not (PACKAGE / name).is_dir()
    ] == []


def test_the_page_is_read_in_minutes() -> None:
    assert len(PAGE.read_text().split()) <= WORDS_LIMIT
