"""Every command that a page shows can be run: the programs of this repository accept its options."""

import difflib
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import COMMANDS, main
from tests.docs.accepted import PARSERS, problem
from tests.docs.pages import ROOT, blocks, pages
from tests.docs.shell import Command, block_commands, commands, inline_commands

README = ROOT / "README.md"

NOT_RUN = {
    "a cluster; tests/chart renders the chart with the options of the pages": ("helm",),
    "a cluster": ("kubectl",),
    "a machine of its own; tests/real/test_systemd.py has one and runs the systemd part of the install guide there": (
        *("apt-get", "pipx", "install", "useradd", "userdel", "runuser", "systemctl", "editor", "echo", "rm", "umask"),
        *("timeout", "sleep"),
    ),
    "what `make image` makes, or a proxy with a real registry": ("podman", "docker", "skopeo"),
    "a proxy that runs on the default port": ("curl",),
    "another machine": ("ssh",),
    "two machines with a bundle between them; tests/real/test_bundle.py has them": ("crane", "ctr"),
    "a log; tests/integration/test_access_log.py runs the jq commands of docs/audit.md": ("journalctl", "jq"),
    "a commit of the reader's choice; benchmarks/baseline.sh does the same": (
        *("mkdir", "git", "tar", "python3", "VENV/bin/python"),
    ),
    "a password on standard input; test_the_first_steps_of_the_readme_succeed runs it": ("cat",),
}
"""What programs need that a test of pages does not have."""


def is_meant_as_command(command: Command) -> bool:
    """Whether a code span is a command, perhaps mistyped, and not a placeholder or a message of the program."""
    word = command.words[1] if len(command.words) > 1 else ""
    return command.program == "make" or word.startswith("-") or bool(difflib.get_close_matches(word, COMMANDS, n=1))


def test_every_command_of_a_block_is_accepted() -> None:
    assert list(filter(None, (problem(command) for page in pages() for command in block_commands(page)))) == []


def test_every_command_in_a_sentence_is_accepted() -> None:
    found = [command for page in pages() for command in inline_commands(page) if is_meant_as_command(command)]
    assert list(filter(None, (problem(command, is_whole=False) for command in found))) == []


def test_every_other_program_has_a_reason_not_to_be_run() -> None:
    named = {command.program for page in pages() for command in block_commands(page)}
    reasons = [program for programs in NOT_RUN.values() for program in programs]
    assert sorted(named - set(PARSERS)) == sorted(reasons)


@pytest.mark.parametrize(
    "line",
    [
        "scope-proxy chek --config config.yaml",
        "scope-proxy check --confg config.yaml",
        "scope-proxy cache prune --size 10Gi",
        "scope-proxy explain --config config.yaml",
        "runuser -u scope-proxy -- scope-proxy check --strickt",
        "timeout 60 sh -c 'until scope-proxy healthcheck --alive; do sleep 1; done'",
        "make imag",
        "make soak SECOND=600",
        'make bench BENCH_ARGS="--olny manifest"',
        ".venv/bin/python -m pytest tests/integration/test_none.py",
    ],
)
def test_a_mistyped_command_is_found(line: str) -> None:
    assert [found for command in commands("page", line) if (found := problem(command))] != []


@pytest.mark.parametrize(
    ("line", "programs"),
    [
        ("(umask 077 && cat > password)", ["umask", "cat"]),
        ("git archive <commit> | tar -x", ["git", "tar"]),
        ("A=1 B=2 pipx install .   # with a comment: it's one", ["pipx"]),
        ("kubectl exec daemonset/x -- scope-proxy explain IMAGE", ["scope-proxy", "kubectl"]),
        ("timeout 60 sh -c 'until a b; do sleep 1; done'", ["a", "sleep", "timeout"]),
    ],
)
def test_a_line_is_split_into_its_commands(line: str, programs: list[str]) -> None:
    assert [command.program for command in commands("page", line)] == programs


def test_the_first_steps_of_the_readme_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = next(block for block in blocks(README, "yaml") if block.text.startswith("version:"))
    (tmp_path / "config.yaml").write_text(configuration.text)
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks(README, "sh") for line in block.text.splitlines()]
    [password] = [line for line in lines if line.endswith("> password)")]
    subprocess.run(["sh", "-c", password], input=b"example\n", check=True, timeout=60)
    assert (tmp_path / "password").read_text() == "example\n"
    steps = ["scope-proxy --version", "scope-proxy check --config config.yaml"]
    assert set(steps) <= set(lines)
    runs = [CliRunner().invoke(main, step.split()[1:]) for step in steps]
    assert [run.exit_code for run in runs] == [0, 0]
    assert "0 warning(s)" in runs[-1].output


def test_convert_makes_of_the_old_file_what_the_page_shows(tmp_path: Path) -> None:
    page = ROOT / "docs" / "convert.md"
    old, configuration, nodes = (block.text for block in blocks(page, "yaml")[:3])
    (tmp_path / "registries.yaml").write_text(old)
    [command] = [command for command in block_commands(page) if command.words[1] == "convert"]
    files = {"/etc/rancher/k3s/registries.yaml": "registries.yaml", "converted": "converted"}
    words = [str(tmp_path / files[word]) if word in files else word for word in command.words[1:]]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert configuration in (tmp_path / "converted" / "config.yaml").read_text()
    assert nodes in (tmp_path / "converted" / "registries.yaml").read_text()
