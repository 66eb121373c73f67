"""What tells one state of a file from another: secrets, certificates, users and keys are read again when it changes."""

import errno
import os
import stat
from pathlib import Path

FileState = tuple[int, int, int, int]
"""Device, inode, time of the last change in nanoseconds, and size in bytes."""


def require_regular(file: str) -> None:
    """Raise OSError for what is no regular file, such as a pipe: reading it might never end."""
    mode = Path(file).stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def state_of(path: str | os.PathLike[str]) -> FileState | None:
    """The state of the file that a path leads to now, by links as Kubernetes swaps them; None without one. Blocks.

    What is no regular file has no state either: a pipe changes by being read.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return state_in(status) if stat.S_ISREG(status.st_mode) else None


def state_in(status: os.stat_result) -> FileState:
    """The state that a `stat` or `fstat` tells."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
