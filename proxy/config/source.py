"""Reading a configuration file, bounded."""

from pathlib import Path

from proxy.config.errors import ConfigError, Position, Problem

MAX_FILE_SIZE = 1 << 20
"""Bytes of a configuration file."""


def read_source(path: Path) -> str:
    """The text of a file; raises ConfigError if it is missing, unreadable, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise _failure(path, _reason(error)) from None
    except ValueError:  # a null byte in the name
        raise _failure(path, "this is no file name") from None
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
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "this is a directory: name the file in it"
    if isinstance(error, PermissionError):
        return "this process may not read the file: check its owner and mode"
    return f"the file cannot be read: {error.strerror or type(error).__name__}"


def _failure(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(Position(str(path)), message)])
