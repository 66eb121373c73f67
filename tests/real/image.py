"""The image, built with buildah on a base that debootstrap makes, and run with runc: no registry is reached."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.processes import Outcome, Process, run, scratch
from tests.real.proxy_process import PROJECT_ROOT
from tests.tools.catalogue import BASE

BUILD_SECONDS = 400.0
CERTIFICATES = "/etc/ssl/certs"
USER = 65532
SHELLS = ("/bin/sh", "/bin/bash", "/bin/dash", "/usr/bin/sh", "/usr/bin/bash", "/usr/bin/dash")
"""Taken away from the running container: nothing needs them."""


@dataclass(frozen=True, slots=True)
class Built:
    """The image: its files, those of its base, and what it says of itself."""

    root: Path
    base: Path
    settings: dict[str, Any]

    @property
    def added(self) -> int:
        """Bytes of the files that are not in the base."""
        return size_of(self.root) - size_of(self.base)


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory, each counted once however many names it has."""
    return int(run(["du", "--summarize", "--bytes", "--one-file-system", str(directory)]).checked().split()[0])


@contextlib.contextmanager
def built() -> Iterator[Built]:
    """Build the image and look into it."""
    with scratch("image") as directory:
        buildah = _Buildah(directory)
        try:
            base = _import_base(buildah)
            buildah(
                *("bud", "--format", "docker", "--isolation", "chroot", "--build-arg", f"BASE={base}"),
                *("--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=abc", "--tag", "localhost/scope-proxy"),
                *("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro", str(PROJECT_ROOT)),  # pip trusts what we trust
            )
            settings = json.loads(buildah("inspect", "--type", "image", "localhost/scope-proxy"))["Docker"]["config"]
            yield Built(buildah.mounted("localhost/scope-proxy"), buildah.mounted(base), settings)
        finally:
            buildah("umount", "--all")


class _Buildah:
    """buildah with a storage of its own, below a scratch directory."""

    def __init__(self, directory: Path) -> None:
        self._storage = (
            "--storage-driver",
            "vfs",
            "--root",
            str(directory / "store"),
            "--runroot",
            str(directory / "run"),
        )

    def __call__(self, *arguments: str) -> str:
        """Run a command; what it wrote."""
        return run(["buildah", *self._storage, *arguments], timeout=BUILD_SECONDS).checked().strip()

    def mounted(self, image: str) -> Path:
        """The files of an image."""
        return Path(self("mount", self("from", "--pull-never", image)))


def _import_base(buildah: _Buildah) -> str:
    """Make an image of Debian's smallest system with its Python; its name."""
    container = buildah("from", "scratch")
    run(["tar", "--extract", "--file", str(BASE.archive), "--directory", buildah("mount", container)]).checked()
    buildah("umount", container)
    buildah("commit", "--rm", container, "localhost/base")
    return "localhost/base"


class Container:
    """A container of the image: its root read-only, its user ordinary, the network that of this machine."""

    def __init__(self, image: Built, directory: Path, name: str) -> None:
        self._state, self._bundle, self._name = directory / "runc", directory / "bundle", name
        self._log = directory / "log"
        self._image = image
        self._bundle.mkdir()

    def start(
        self, config: Path, cache: Path, *, seccomp: Mapping[str, Any] | None = None, before: Sequence[str] = ()
    ) -> Process:
        """Run the image's own command with a configuration; `before` is a program that gets it as its arguments.

        Without a seccomp profile it runs as a pod with `seccompProfile: {type: Unconfined}`.
        """
        run(["runc", "spec", "--bundle", str(self._bundle)]).checked()
        file = self._bundle / "config.json"
        made = self._specification(json.loads(file.read_text()), config, cache)
        made["process"]["args"] = [*before, *made["process"]["args"]]
        if seccomp is not None:
            made["linux"]["seccomp"] = seccomp
        file.write_text(json.dumps(made))
        return Process(self._runc("run", "--bundle", str(self._bundle), self._name), log=self._log)

    def limit(self, processes: int) -> None:
        """Let it have so many processes and threads, by its cgroup."""
        run(self._runc("update", "--pids-limit", str(processes), self._name)).checked()

    def execute(self, *command: str) -> Outcome:
        """Run a command in the running container."""
        return run(self._runc("exec", self._name, *command))

    def remove(self) -> None:
        """End it, if it has not ended."""
        subprocess.run(self._runc("delete", "--force", self._name), capture_output=True, check=False)

    def _runc(self, *arguments: str) -> Sequence[str]:
        return ["runc", "--root", str(self._state), *arguments]

    def _specification(self, made: dict[str, Any], config: Path, cache: Path) -> dict[str, Any]:
        settings = self._image.settings
        user, group = map(int, settings["User"].split(":"))
        capabilities: dict[str, list[str]] = {kind: [] for kind in ("bounding", "effective", "permitted", "ambient")}
        made["process"] |= {
            "terminal": False,
            "user": {"uid": user, "gid": group},
            "args": [*settings["Entrypoint"], *settings["Cmd"]],
            "env": settings["Env"],
            "cwd": settings["WorkingDir"] or "/",
            "capabilities": capabilities,
            "noNewPrivileges": True,
        }
        made["root"] = {"path": str(self._image.root), "readonly": True}
        made["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
        made["linux"]["maskedPaths"] += SHELLS
        bound = {"/etc/scope-proxy/config.yaml": (config, "ro"), "/var/cache/scope-proxy": (cache, "rw")}
        made["mounts"] += [
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"]},  # noqa: S108 - its own
            *(
                {"destination": place, "type": "bind", "source": str(source), "options": ["bind", mode]}
                for place, (source, mode) in bound.items()
            ),
        ]
        return made
