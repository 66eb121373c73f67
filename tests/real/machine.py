"""A Debian machine that systemd runs: of the tools' directory, booted with runc on the network of this machine."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.real.image import CERTIFICATES
from tests.real.processes import PROBE_PAUSE, START_TIMEOUT, Outcome, Process, run, scratch
from tests.tools.catalogue import MACHINE

COMMAND_SECONDS = 300.0
"""For one script: pipx fetches the packages that scope-proxy needs."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_ADMIN"),
    *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"),
)
"""What systemd needs to start services and to take rights away from them."""


class Machine:
    """A booted machine; `root` are its files."""

    def __init__(self, root: Path, state: Path, name: str) -> None:
        self.root = root
        self._state, self._name = state, name

    def run(self, script: str, *, directory: str = "/", typed: str = "") -> Outcome:
        """Run a script as root, as if it were typed: it ends with the first command that fails."""
        place = ("--cwd", directory, "--env", f"PATH={PATH}", "--env", "HOME=/root")
        command = ["exec", *place, self._name, "/bin/bash", "-euc", script]
        return run(self._runc(*command), timeout=COMMAND_SECONDS, typed=typed)

    def property(self, unit: str, name: str) -> str:
        """One property of a unit, as `systemctl show` has it."""
        return self.run(f"systemctl show --value --property {name} {unit}").checked().strip()

    def journal(self, unit: str) -> str:
        """What a unit has logged."""
        return self.run(f"journalctl --no-pager --unit {unit}").checked()

    def wait(self, condition: Callable[[], bool], unit: str) -> None:
        """Wait for something that a unit does; RuntimeError with its journal where it takes too long."""
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{unit} has not come so far in {START_TIMEOUT:g} s:\n{self.journal(unit)}")
            time.sleep(PROBE_PAUSE)

    @contextlib.contextmanager
    def booted(self, bundle: Path, log: Path) -> Iterator[None]:
        """Start it, wait until systemd has started everything, and end it after the block, whatever it does then."""
        process = Process(self._runc("run", "--bundle", str(bundle), self._name), log=log)
        try:
            process.wait_ready(self._is_running)
            yield
        finally:
            run(self._runc("delete", "--force", self._name))
            process.wait(START_TIMEOUT)

    def _is_running(self) -> bool:
        return self.run("systemctl is-system-running").output.strip() in {"running", "degraded"}

    def _runc(self, *arguments: str) -> list[str]:
        return ["runc", "--root", str(self._state), *arguments]


@contextlib.contextmanager
def booted() -> Iterator[Machine]:
    """A fresh machine, until the end of the block."""
    with scratch("machine") as directory:
        root, bundle = directory / "root", directory / "bundle"
        for made in (root, bundle):
            made.mkdir()
        run(["tar", "--extract", "--file", str(MACHINE.archive), "--directory", str(root)]).checked()
        run(["runc", "spec", "--bundle", str(bundle)]).checked()
        file = bundle / "config.json"
        file.write_text(json.dumps(_specification(json.loads(file.read_text()), root)))
        machine = Machine(root, directory / "runc", f"{directory.name}-{os.getpid()}")
        with machine.booted(bundle, directory / "log"):
            yield machine


def _specification(made: dict[str, Any], root: Path) -> dict[str, Any]:
    """The container of a machine: systemd is its first process, with cgroups of its own.

    `/proc/sys` stays read-only, as runc has it: it is that of this machine.
    """
    capabilities = [f"CAP_{name}" for name in _CAPABILITIES]
    made["process"] |= {
        "terminal": False,
        "args": ["/lib/systemd/systemd", "--log-target=console"],
        "env": [f"PATH={PATH}", "container=runc", "LANG=C.UTF-8"],
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "noNewPrivileges": False,
        "rlimits": [],
    }
    made["root"] = {"path": str(root), "readonly": False}
    made["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "cgroup")]
    cgroups = ["nosuid", "noexec", "nodev", "relatime", "rw"]
    made["mounts"] = [
        *(item for item in made["mounts"] if item["destination"] not in {"/sys", "/sys/fs/cgroup"}),
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": cgroups},
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"]},  # noqa: S108 - its own
        *(
            {"destination": place, "type": "bind", "source": place, "options": ["bind", "ro"]}
            for place in (CERTIFICATES, "/etc/resolv.conf")  # it trusts and asks whom we trust and ask
        ),
    ]
    return made
