"""Helm accepts every command that a page shows, and the page's own values install the chart."""

from pathlib import Path

import pytest

from tests.chart.helm import CHART, USUAL, helm, parsed
from tests.docs.pages import blocks, named, pages
from tests.docs.shell import Command, block_commands, commands

COMMANDS = {page: [command for command in block_commands(page) if command.program == "helm"] for page in pages()}
INSTALLS = [page for page in COMMANDS if any(command.words[1] == "install" for command in COMMANDS[page])]


def refusal(command: Command) -> str:
    """What Helm says to an unknown command or option, which it rejects before it prints help; else nothing."""
    outcome = helm(*command.words[1:], "--help")
    return outcome.errors if outcome.status else ""


def test_helm_knows_every_command_and_option_of_a_page() -> None:
    found = {str(command): refusal(command) for page in COMMANDS for command in COMMANDS[page]}
    assert {command: why for command, why in found.items() if why} == {}


@pytest.mark.parametrize("line", ["helm instal x", "helm test x --namspace y", "helm rollback x --revison 1"])
def test_a_mistyped_command_is_found(line: str) -> None:
    [command] = commands("page", line)
    assert refusal(command)


@pytest.mark.parametrize("page", INSTALLS, ids=named)
def test_the_values_of_the_page_install_the_chart(page: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(next(block.text for block in blocks(page, "yaml") if "config:\n" in block.text))
    files = {"helm/scope-proxy": CHART, "values.yaml": values}
    for command in COMMANDS[page]:
        if command.words[1] in ("install", "upgrade"):
            words = [files.get(word, word) for word in command.words[2:]]
            assert parsed(helm("template", *words, "--kube-version", f"{USUAL}.0").checked()).of("DaemonSet")
