"""Helm accepts every command that a page shows, and the page's own values install the chart."""

import re
from pathlib import Path

import pytest

from tests.chart.helm import CHART, USUAL, VALUES, helm, parsed, rendered_by_4, values_of
from tests.docs.accepted import problem
from tests.docs.pages import blocks, named, pages
from tests.docs.shell import Command, block_commands, commands

COMMANDS = {page: [command for command in block_commands(page) if command.program == "helm"] for page in pages()}
NOTE = re.compile(r"^ {5}((?:make|helm|kubectl|cp|ctr) .+)$", re.MULTILINE)
"""A command of the notes that Helm prints after an installation."""
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


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_command_of_the_notes_is_accepted(values: Path) -> None:
    notes = rendered_by_4(values_of(values))["scope-proxy/templates/NOTES.txt"]
    printed = [command for line in NOTE.findall(notes) for command in commands("NOTES.txt", line)]
    assert printed
    assert [str(command) for command in printed if problem(command)] == []
    assert [str(command) for command in printed if command.program == "helm" and refusal(command)] == []
