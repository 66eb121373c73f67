"""Reading files of the configuration: bounded, and again when their state has changed."""

import errno
import os
import stat
from pathlib import Path

from proxy.config.errors import ConfigError, Position, Problem

NO_SUCH_FILE = "there is no such file"
"""The message for a missing file."""
FileState = tuple[int, int, int, int]
"""Device, inode, modification time in nanoseconds, and size in bytes."""


def read_bounded(
    path: str | os.PathLike[str], limit: int, known: FileState | None = None, *, follow: bool = True
) -> tuple[bytes | None, FileState]:
    """The content of a regular file, at most `limit` + 1 bytes, and its state before it was read. Blocks.

    The content is None if the state is `known`. Without `follow`, a symbolic link at the end of the path is an error.
    Raises OSError, also if it is not a regular file (reading a pipe may never end), and ValueError for an invalid name.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        _require_regular(status)
        state = state_in(status)
        if state == known:
            return None, state
        data = bytearray()
        while len(data) <= limit and (part := file.read(limit + 1 - len(data))):
            data += part
        return bytes(data), state


def require_regular(file: str) -> None:
    """Raise OSError if it is not a regular file; for files that a library reads."""
    _require_regular(Path(file).stat())


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


def state_of(path: str | os.PathLike[str]) -> FileState | None:
    """The state of the file at a path, after symbolic links; None if it is missing or not a regular file. Blocks."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return state_in(status) if stat.S_ISREG(status.st_mode) else None


def state_in(status: os.stat_result) -> FileState:
    """The state in the result of `stat` or `fstat`."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


MAX_FILE_SIZE = 1 << 20
"""Maximum bytes of a configuration file."""


def read_source(path: Path) -> str:
    """The text of a file; raises ConfigError if it is missing, unreadable, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise _failure(path, _reason(error)) from None
    except ValueError:  # a null byte in the name
        raise _failure(path, "invalid file name") from None
    if len(data) > MAX_FILE_SIZE:
        raise _failure(path, f"the file is larger than {MAX_FILE_SIZE >> 20} MiB: is it a configuration?")
    return _decode(path, data)


def _decode(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        message = "the file is not UTF-8 text from here on: save it as UTF-8"
        raise ConfigError([Problem(Position(str(path), line, column), message)]) from None


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return NO_SUCH_FILE
    if isinstance(error, IsADirectoryError):
        return "this is a directory: give the path of the file in it"
    if isinstance(error, PermissionError):
        return "permission denied: check the owner and mode of the file"
    return f"the file cannot be read: {error.strerror or type(error).__name__}"


def _failure(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(Position(str(path)), message)])
