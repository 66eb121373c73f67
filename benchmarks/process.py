"""Processes that are measured: pinned to a core, their CPU time and resident memory read from /proc."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE = 0
CLIENT_CORE = 1
STOP_SECONDS = 15.0
QUIET_SECONDS = 0.25
SETTLE_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_AFTER_NAME = 2
"""Fields of /proc/PID/stat before the first one behind the name."""


def pinned(command: Sequence[str], core: int) -> list[str]:
    """The command, on one core where the machine has more."""
    if (os.cpu_count() or 1) <= CLIENT_CORE:
        return list(command)
    return ["taskset", "-c", str(core), *command]


@dataclass(frozen=True, slots=True)
class Started:
    """A server and all its child processes."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> "Started":
        """Start it on the servers' core; what it writes goes to a file, as a service's log does."""
        with log.open("ab") as file:
            return cls(subprocess.Popen(pinned(command, SERVER_CORE), stdout=file, stderr=file, env=environment))

    def cpu_seconds(self) -> float:
        """CPU time so far of the process and its children, those that have ended among them."""
        return sum(cpu_seconds(pid) for pid in self._pids())

    def resident_mib(self) -> float:
        """Resident memory now; what processes share is counted in each."""
        return sum(resident(pid, "VmRSS") for pid in self._pids())

    def settle(self) -> None:
        """Wait until it uses no CPU: what it does after its last answer belongs to the answer."""
        deadline, before = time.monotonic() + SETTLE_SECONDS, -1.0
        while time.monotonic() < deadline and (now := self.cpu_seconds()) != before:
            before = now
            time.sleep(QUIET_SECONDS)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _pids(self) -> Iterator[int]:
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += [int(child) for child in _read(children).split()]


def resident(pid: int, field: str) -> float:
    """A figure of /proc/PID/status in MiB: VmRSS is resident now, VmHWM was at most; 0 once it has ended."""
    value = _read(Path(f"/proc/{pid}/status")).partition(f"{field}:")[2].split()
    return int(value[0]) / 1024 if value else 0


def cpu_seconds(pid: int | str) -> float:
    """CPU time so far of a process and of its children that have ended."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[13 - _AFTER_NAME : 17 - _AFTER_NAME]) / _TICKS


def _read(file: Path) -> str:
    """A file of /proc; nothing once the process has ended, whose CPU time is then its parent's."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
