"""The program, and what happens while it forks its first worker: arguments EVENT, FILE, and those of the program.

`stop`: the parent gets SIGTERM. `orphan`: the parent is killed before the worker runs, whose process id goes to FILE.
"""

import os
import signal
import sys
import time
from pathlib import Path

from proxy.cli.main import main

PAUSE = 0.01


class FirstFork:
    """What happens at the first fork of this process."""

    def __init__(self, event: str, file: Path) -> None:
        self._is_over = False
        self._file = file
        if event == "stop":
            os.register_at_fork(after_in_parent=self._stop)
        else:
            os.register_at_fork(after_in_child=self._lose_parent)

    def _stop(self) -> None:
        if not self._is_over:
            self._is_over = True
            os.kill(os.getpid(), signal.SIGTERM)

    def _lose_parent(self) -> None:
        parent = os.getppid()
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(PAUSE)
        self._file.write_text(str(os.getpid()))


def again(path: str, arguments: list[str]) -> None:
    """With workers the program starts anew: as this one."""
    os.execve(path, [path, "-m", "tests.operate.forking", *arguments[3:]], os.environ)  # noqa: S606 - as the program does


if __name__ == "__main__":
    os.execv = again  # type: ignore[assignment]
    FirstFork(sys.argv[1], Path(sys.argv[2]))
    main(sys.argv[3:])
