"""The tools of CI: where they are built, when they are built again, and that an interrupted build leaves no tool."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.real.proxy_process import PROJECT_ROOT
from tests.tools.build import build
from tests.tools.catalogue import TOOLS
from tests.tools.tool import Tool, UnavailableError, tools_directory

TIMEOUT = 60.0
HALF = "half of it"
KILLED = """
import os, signal
from tests.tools.build import build
from tests.tools.test_build import HALF, Note

class Killed(Note):
    def build(self, target, workshop):
        target.mkdir()
        (target / "text").write_text(HALF)
        os.kill(os.getpid(), signal.SIGKILL)

build([Killed("note", "1")])
"""


@dataclass(frozen=True, slots=True)
class Note(Tool):
    """A tool that is a line of text, and keeps a record of its builds."""

    text: str = ""
    builds: list[str] = field(default_factory=list, repr=False)
    """Every version that was built."""

    def build(self, target: Path, workshop: Path) -> None:
        assert workshop.is_dir()
        target.mkdir()
        (target / "text").write_text(HALF)
        if not self.text:
            raise UnavailableError("there is no text")
        (target / "text").write_text(self.text)
        self.builds.append(self.version)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tools are built meanwhile."""
    monkeypatch.setenv("SCOPE_PROXY_TOOLS", str(tmp_path / "tools"))
    return tmp_path / "tools"


def entries(directory: Path) -> set[str]:
    """The names of all files and directories in it, but the lock."""
    return {path.name for path in directory.iterdir()} - {".lock"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SCOPE_PROXY_TOOLS": "/srv/tools", "XDG_CACHE_HOME": "/srv/cache"}, Path("/srv/tools")),
        ({"SCOPE_PROXY_TOOLS": "~/tools"}, Path.home() / "tools"),
        ({"SCOPE_PROXY_TOOLS": "", "XDG_CACHE_HOME": "/srv/cache"}, Path("/srv/cache/scope-proxy-tools")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/scope-proxy-tools"),
        ({}, Path.home() / ".cache/scope-proxy-tools"),
    ],
)
def test_directory_is_the_variable_else_in_the_users_cache(environment: dict[str, str], expected: Path) -> None:
    assert tools_directory(environment) == expected


def test_every_tool_is_in_that_directory_under_its_name_and_version(directory: Path) -> None:
    assert {tool.path.parent for tool in TOOLS} == {directory}
    assert all(tool.path.name.startswith(f"{tool.name}-{tool.version}-") for tool in TOOLS)
    assert len({tool.path for tool in TOOLS}) == len(TOOLS)


def test_tool_is_built_once(directory: Path) -> None:
    tool = Note("note", "1", "hello")
    assert build([tool]) == []
    assert build([tool]) == []
    assert tool.builds == ["1"]
    assert (tool.path / "text").read_text() == "hello"
    assert entries(directory) == {tool.path.name}


@pytest.mark.parametrize(("version", "text"), [("2", "hello"), ("1", "bye")], ids=["version", "anything-else"])
def test_changed_pin_builds_again_and_leaves_the_old_one(directory: Path, version: str, text: str) -> None:
    old = Note("note", "1", "hello")
    new = Note("note", version, text, old.builds)
    assert build([old]) == build([new]) == []
    assert old.builds == [old.version, new.version]
    assert (new.path / "text").read_text() == new.text
    assert (old.path / "text").read_text() == "hello"
    assert entries(directory) == {old.path.name, new.path.name}


def test_tool_that_this_machine_cannot_build_is_named_and_the_others_are_built(directory: Path) -> None:
    without, other = Note("without", "1"), Note("other", "1", "hello")
    assert build([without, other]) == ["without"]
    assert entries(directory) == {other.path.name}


def test_failed_build_leaves_nothing(directory: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Failing(Note):
        def build(self, target: Path, workshop: Path) -> None:
            Note.build(self, target, workshop)
            raise subprocess.CalledProcessError(1, ["go", "install"])

    with pytest.raises(subprocess.CalledProcessError):
        build([Failing("note", "1", "hello")])
    assert entries(directory) == set()


def test_killed_build_leaves_no_tool_and_the_next_build_removes_its_files(directory: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=PROJECT_ROOT, timeout=TIMEOUT, check=False)
    assert killed.returncode < 0
    assert list(directory.glob("note-*")) == []
    assert [path.read_text() for path in directory.rglob("text")] == [HALF]
    tool = Note("note", "1", "hello")
    assert build([tool]) == []
    assert [path.read_text() for path in directory.rglob("text")] == ["hello"]
    assert entries(directory) == {tool.path.name}


def test_builds_at_the_same_time_wait_for_each_other(directory: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    script = f"""
from pathlib import Path
from tests.tools.build import build
from tests.tools.test_build import Note

class Recorded(Note):
    def build(self, target, workshop):
        Note.build(self, target, workshop)
        with Path({str(record)!r}).open("a") as record:
            record.write("built ")

raise SystemExit(len(build([Recorded("note", "1", "hello")])))
"""
    builds = [subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT_ROOT) for _ in range(3)]
    assert [process.wait(TIMEOUT) for process in builds] == [0, 0, 0]
    assert record.read_text() == "built "
    assert len(entries(directory)) == 1
