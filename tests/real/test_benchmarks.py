"""The benchmark with a baseline: another revision takes turns with the checkout, and the report compares the two."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.installation import REVISION_FILE, installed
from tests.fakes.venvs import ROOT, install
from tests.real.processes import Outcome, run
from tests.real.programs import require

SCRIPT = Path("benchmarks", "baseline.sh")
LOADED = """
import sys
with open({file!r}, "a") as file:
    print(*sys.argv[1:2], file=file)
"""
"""Added to a package: its process writes down with which command it runs."""


def benchmarks(*options: str) -> Outcome:
    arguments = [sys.executable, "-m", "benchmarks", "--peers", "scope-proxy", "--quick", *options]
    return run(arguments, env={"PYTHONPATH": str(ROOT)})


def repository(directory: Path, *names: str) -> Path:
    """A repository with one commit, of these files of the checkout and the script that installs a revision; the script.

    The checkout itself may be an archive without a repository, or belong to another user.
    """
    script = directory / SCRIPT
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / SCRIPT, script)
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, directory / name)
    git(directory, "init", "--quiet")
    git(directory, "add", "--all")
    author = ("-c", "user.name=tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgSign=false")
    git(directory, *author, "commit", "--quiet", "--message=all")
    return script


def git(directory: Path, *arguments: str) -> str:
    return run(["git", "-C", str(directory), *arguments]).checked().strip()


@pytest.mark.slow
def test_a_baseline_runs_its_own_code_in_the_same_rounds(tmp_path: Path) -> None:
    require("wrk")
    package = install(tmp_path / "venv", "0.0.7")
    with (package / "__init__.py").open("a") as code:
        code.write(LOADED.format(file=str(tmp_path / "loaded")))
    (tmp_path / "loaded").touch()

    report = benchmarks(
        "--baseline", str(tmp_path / "venv"), "--only", "manifest", "--rounds", "2", "--output", str(tmp_path)
    )

    assert "undecided (too few rounds)" in report.checked()
    assert (tmp_path / "loaded").read_text() == "serve\n"
    result = json.loads((tmp_path / "benchmarks.json").read_text())
    assert str(ROOT / "proxy") in result["installations"]["scope-proxy"]
    assert result["installations"]["baseline"].startswith("version 0.0.7, ")
    assert str(package) in result["installations"]["baseline"]
    turns = [one["peer"] for one in result["samples"] if one["case"] == "GET, 16 connections"]
    assert turns == ["scope-proxy", "baseline", "baseline", "scope-proxy"]
    compared = [one for one in result["baseline"] if one["figure"] == "cpu_us"]
    assert [(one["case"], one["rounds"], one["not_slower"]) for one in compared] == [
        ("GET, 16 connections", 2, "undecided"),
        ("HEAD, 16 connections", 2, "undecided"),
    ]
    assert all(one["ours"] > 0 and one["baseline"] > 0 for one in compared)


@pytest.mark.slow
def test_a_baseline_that_refuses_its_configuration_is_reported_with_its_own_message(tmp_path: Path) -> None:
    (tmp_path / "changes.yaml").write_text("nonsense: 1\n")
    ended = benchmarks("--baseline-config", str(tmp_path / "changes.yaml"), "--only", "manifest")
    assert (ended.status, ended.errors) == (1, "")
    assert ended.output.startswith("NotReady: baseline does not start: ")
    assert "unknown key 'nonsense'" in ended.output


def test_an_unusable_baseline_is_one_line(tmp_path: Path) -> None:
    ended = benchmarks("--baseline", str(tmp_path / "missing"))
    advice = "has no bin/python; make one with `make baseline REV=<commit>`"
    assert (ended.status, ended.errors) == (1, "")
    assert ended.output == f"BaselineError: {tmp_path}/missing {advice}\n"


@pytest.mark.slow
def test_make_baseline_installs_a_revision_in_a_virtual_environment_of_its_own(tmp_path: Path) -> None:
    require("git")
    script = repository(tmp_path / "checkout", "proxy", "pyproject.toml", "README.md", "LICENSE", "requirements.lock")
    commit = git(script.parents[1], "rev-parse", "--short=12", "HEAD")

    run([str(script), sys.executable, "HEAD", str(tmp_path / "baselines")]).checked()

    venv = tmp_path / "baselines" / commit
    baseline = installed(venv)
    assert (baseline.revision, baseline.package.is_relative_to(venv)) == (commit, True)
    assert "Usage: " in run([*baseline.command, "serve", "--help"]).checked()
    assert (venv / REVISION_FILE).exists()


def test_make_baseline_refuses_what_is_no_commit(tmp_path: Path) -> None:
    require("git")
    ended = run([str(repository(tmp_path / "checkout")), sys.executable, "no-such-revision", str(tmp_path)])
    assert ended.status == 1
    assert ended.errors == "baseline: 'no-such-revision' is not a commit: make baseline REV=<commit>\n"
