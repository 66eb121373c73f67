"""Processes that are measured: pinned to a core, their CPU time and resident memory read from /proc."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
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
    def start(cls, command: Sequence[str], log: Path) -> "Started":
        """Start it on the servers' core; what it writes goes to a file, as a service's log does."""
        with log.open("ab") as file:
            return cls(subprocess.Popen(pinned(command, SERVER_CORE), stdout=file, stderr=file))

    def cpu_seconds(self) -> float:
        """CPU time so far of the process and its children, those that have ended among them."""
        return sum(_cpu_seconds(pid) for pid in self._pids())

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
                waiting += [int(child) for child in children.read_text().split()]


def resident(pid: int, field: str) -> float:
    """A figure of /proc/PID/status in MiB: VmRSS is what is resident now, VmHWM the most that ever was."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[13 - _AFTER_NAME : 17 - _AFTER_NAME]) / _TICKS
