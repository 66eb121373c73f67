"""Build every tool that is not there yet: `make tools`."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.tools.catalogue import TOOLS
from tests.tools.tool import Tool, UnavailableError, tools_directory


def build(tools: Sequence[Tool]) -> list[str]:
    """Build what is missing; which of them this machine cannot build.

    A tool appears in its place complete or not at all, whenever the build ends. One process builds at a time.
    """
    directory = tools_directory()
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory), _workshop(directory) as workshop:
        return [tool.name for tool in tools if not _is_built(tool, workshop)]


def _is_built(tool: Tool, workshop: Path) -> bool:
    if tool.path.exists():
        _print(f"{tool.name} {tool.version}: present")
        return True
    _print(f"{tool.name} {tool.version}: building")
    started = time.monotonic()
    target = workshop / "built" / tool.name
    target.parent.mkdir(exist_ok=True)
    try:
        tool.build(target, workshop)
    except UnavailableError as error:
        _print(f"{tool.name} {tool.version}: not built: {error}")
        return False
    target.rename(tool.path)
    _print(f"{tool.name} {tool.version}: built in {time.monotonic() - started:.0f} s")
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock; the wait ends with the other build, whose commands have a time limit."""
    with (directory / ".lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)  # a command that survives its build keeps it locked
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _print(f"waiting for another build in {directory}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _workshop(directory: Path) -> Iterator[Path]:
    """An empty directory on the file system of the tools; a build that was killed may have left its files there."""
    workshop = directory / ".build"
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """The exit status: 1 where a build failed, or in CI where this machine cannot build a tool."""
    try:
        missing = build(TOOLS)
    except subprocess.CalledProcessError as error:
        _print(f"{' '.join(error.cmd)}: exit status {error.returncode}:\n{error.output}")
        return 1
    except subprocess.TimeoutExpired as error:
        _print(f"{error}")
        return 1
    return int(bool(missing) and os.environ.get("CI") == "true")


if __name__ == "__main__":
    sys.exit(main())
