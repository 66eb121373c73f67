"""Every example of a page can be used as it stands."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from proxy.cli.main import main
from proxy.config.errors import ConfigError
from proxy.config.load import parse_config
from proxy.k3s.registries_yaml import parse_registries
from tests.docs.pages import ROOT, Block, blocks, pages, text_of

EXAMPLES = [block for page in pages() for block in blocks(page, "yaml", "toml", "json")]


def problems(block: Block) -> str:
    """What is wrong with an example; nothing if it can be used."""
    try:
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.text.startswith("version:"):
            parse_config(block.text, block.name)
        elif block.text.startswith(("mirrors:", "configs:")):
            parse_registries(block.text, block.name)
        else:
            YAML(typ="safe", pure=True).load(block.text)
    except ConfigError as error:
        return "\n".join(map(str, error.problems))
    except ValueError as error:
        return str(error)
    return ""


def test_every_example_loads() -> None:
    found = {block.name: problems(block) for block in EXAMPLES}
    assert {name: problem for name, problem in found.items() if problem} == {}


def test_there_are_examples_of_every_kind() -> None:
    starts = {block.text.partition(":")[0] for block in EXAMPLES if block.language == "yaml"}
    assert {"version", "mirrors"} <= starts
    assert any(block.language == "toml" for block in EXAMPLES)


def test_a_wrong_example_is_found() -> None:
    assert "verison" in problems(Block("x", "yaml", "version: 1\nverison: 1\n"))
    assert problems(Block("x", "toml", "a = = 1\n"))


def test_the_readme_shows_what_explain_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = ROOT / "README.md"
    console = next(block for block in blocks(readme, "console") if "explain" in block.text)
    command, _, output = console.text.partition("\n")
    (tmp_path / "config.yaml").write_text(blocks(readme, "yaml")[0].text)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command.removeprefix("$ scope-proxy ").split())
    assert result.exit_code == 0
    assert result.output == output


def test_contributing_shows_tests_that_run() -> None:
    examples = [block.text for block in blocks(ROOT / "CONTRIBUTING.md", "python")]
    assert examples == [text_of(f"tests/{name}/test_example.py") for name in ("unit", "integration", "cache", "faults")]
