"""The program, whose configuration changes once it has been read: arguments FILE, FRESH, and those of the program."""

import os
import sys
from pathlib import Path

from proxy.cli.main import main
from proxy.config.model import Config
from proxy.runtime import run, sockets, workers


def changing_bind(config: Config) -> sockets.Sockets:
    """Put the fresh file in the place of the one that was read, then go on as the program does."""
    Path(sys.argv[2]).rename(sys.argv[1])
    return sockets.bind(config)


def again(path: str, arguments: list[str]) -> None:
    """With workers the program starts anew: as this one."""
    os.execve(path, [path, "-m", "tests.operate.changing", *arguments[3:]], os.environ)  # noqa: S606 - as the program does


if __name__ == "__main__":
    run.bind = workers.bind = changing_bind  # type: ignore[attr-defined] # imported there
    os.execv = again  # type: ignore[assignment]
    main(sys.argv[3:])
