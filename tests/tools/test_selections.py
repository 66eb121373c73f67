"""`make test` and `make test-slow` together run every test exactly once, and CI runs both."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.programs import require

PROJECT_ROOT = Path(__file__).parents[2]


def pytest_arguments(target: str) -> list[str]:
    """The arguments with which a target of the Makefile calls pytest."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    commands = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target, "PYTEST_ARGS="],
        cwd=PROJECT_ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    [command] = [line for line in commands.splitlines() if " -m pytest " in line]
    words = shlex.split(command)
    return words[words.index("pytest") + 1 :]


def collected(target: str) -> tuple[set[str], int]:
    """The tests that a target selects, and how many there are to select from."""
    command = [sys.executable, "-m", "pytest", *pytest_arguments(target), "-n", "0", "--collect-only", "-q"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    outcome = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=False, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr[-2000:]
    tests = {line for line in outcome.stdout.splitlines() if re.match(r"tests/\S+\.py::", line)}
    counted = re.search(r"^(\d+)/(\d+) tests collected", outcome.stdout, re.MULTILINE)
    assert counted is not None, outcome.stdout[-2000:]
    assert len(tests) == int(counted[1])
    return tests, int(counted[2])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_test_is_in_exactly_one_selection() -> None:
    require("make")
    (usual, all_tests), (slow, _) = collected("test"), collected("test-slow")
    assert usual
    assert slow
    assert usual & slow == set()
    assert len(usual) + len(slow) == all_tests


def test_ci_runs_both() -> None:
    steps = re.findall(r"^step (\S+)$", (PROJECT_ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"test", "test-slow"} <= set(steps)


def test_unit_tests_import_nothing_of_the_tests_with_real_programs() -> None:
    """They run where only Python is installed."""
    imports = re.compile(r"^\s*(?:from|import) tests\.(?:real|crash|operate|chart)\b", re.MULTILINE)
    files = sorted((PROJECT_ROOT / "tests" / "unit").rglob("*.py"))
    assert files
    assert [str(file.relative_to(PROJECT_ROOT)) for file in files if imports.search(file.read_text("utf-8"))] == []
