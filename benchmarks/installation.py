"""Installed revisions of scope-proxy: the checkout, and a baseline in a virtual environment of its own."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import proxy
from proxy.version import VERSION

REVISION_FILE = "scope-proxy-revision"
"""File of a virtual environment with the commit that is installed there; `make baseline` writes it."""
FACTS_SECONDS = 60.0
_ROOT = Path(__file__).parent.parent
_ADVICE = "make one with `make baseline REV=<commit>`"
_FACTS = """
import importlib.util, json, platform, sys
from importlib.metadata import distribution
installed = distribution("scope-proxy")
main = next(point for point in installed.entry_points if point.name == "scope-proxy")
package = importlib.util.find_spec(main.module.partition(".")[0]).submodule_search_locations[0]
json.dump({"version": installed.version, "package": package, "python": platform.python_version()}, sys.stdout)
"""


class BaselineError(Exception):
    """The baseline cannot be used: what is wrong with it, and what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A scope-proxy that can be started, and where its code is."""

    command: Sequence[str]
    package: Path
    """The directory of the package that the command runs."""
    version: str
    python: str
    revision: str
    """The commit, where it is known."""
    environment: Mapping[str, str] | None = None
    """Environment variables of the process; none means those of the benchmark."""

    def __str__(self) -> str:
        """What a report shows."""
        revision = self.revision or "revision unknown"
        return f"version {self.version}, {revision}, Python {self.python}, {self.package}"


@cache
def checkout() -> Installation:
    """The code that the benchmarks themselves import."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = commit and _git("status", "--porcelain", "--", "proxy")
    revision = f"{commit} with uncommitted changes" if changed else commit
    package = Path(proxy.__file__).parent
    return Installation([sys.executable, "-m", "proxy"], package, VERSION, platform.python_version(), revision)


def installed(venv: Path) -> Installation:
    """The scope-proxy of a virtual environment; raises BaselineError.

    It is started so that it cannot import the checkout: without PYTHONPATH, and with -P, which keeps the working
    directory out of the module search path.
    """
    python, program = venv.absolute() / "bin" / "python", venv.absolute() / "bin" / "scope-proxy"
    for file in (python, program):
        if not file.exists():
            raise BaselineError(f"{venv} has no bin/{file.name}; {_ADVICE}")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    facts = _facts(venv, [str(python), "-P", "-c", _FACTS], environment)
    package = Path(facts["package"])
    if package.resolve() == Path(proxy.__file__).parent.resolve():
        raise BaselineError(f"{venv} runs the checkout itself, {package}: install the baseline without pip's -e")
    file = venv / REVISION_FILE
    revision = file.read_text().strip() if file.exists() else ""
    command = [str(python), "-P", str(program)]
    return Installation(command, package, facts["version"], facts["python"], revision, environment)


def _facts(venv: Path, command: Sequence[str], environment: Mapping[str, str]) -> Mapping[str, str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FACTS_SECONDS, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        output = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        reason = output.strip().rpartition("\n")[2] or error
        raise BaselineError(f"{venv} has no working scope-proxy: {reason}; {_ADVICE}") from error
    facts: dict[str, str] = json.loads(done.stdout)
    return facts


def _git(*arguments: str) -> str:
    """The output of a git command in the checkout; empty where it fails or there is no git."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, timeout=FACTS_SECONDS, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
