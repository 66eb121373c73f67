"""Atomic, durable changes of files and directories, also when the process is killed. Blocking calls."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_PREFIX = ".scope-proxy-"
_TEMPORARY = re.compile(re.escape(_PREFIX) + "[0-9a-f]{16}")


def write_file(path: Path, text: str) -> None:
    """Replace a file atomically and durably."""
    temporary = _beside(path)
    try:
        _write_new(temporary, text)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def create_directory(directory: Path, files: Mapping[str, str]) -> None:
    """Create a directory with its files atomically; OSError if something exists at its path."""
    temporary = _beside(directory)
    temporary.mkdir(_DIRECTORY_MODE)
    temporary.chmod(_DIRECTORY_MODE)  # whatever the umask says
    try:
        for name, text in files.items():
            _write_new(temporary / name, text)
        _sync(temporary)
        temporary.rename(directory)
    except OSError:
        _clear(temporary)
        raise
    _sync(directory.parent)


def remove_directory(directory: Path) -> None:
    """Remove a directory with its files atomically."""
    temporary = _beside(directory)
    directory.rename(temporary)
    _sync(directory.parent)
    _clear(temporary)


def remove_file(path: Path) -> None:
    """Remove a file durably."""
    path.unlink()
    _sync(path.parent)


def sweep(directory: Path) -> None:
    """Remove the temporary files and directories of interrupted changes from a directory."""
    for entry in list(os.scandir(directory)):
        if not _TEMPORARY.fullmatch(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            _clear(Path(entry.path))
        else:
            Path(entry.path).unlink()


def is_temporary(name: str) -> bool:
    """Whether a name is that of a temporary file or directory."""
    return _TEMPORARY.fullmatch(name) is not None


def _beside(path: Path) -> Path:
    return path.parent / f"{_PREFIX}{secrets.token_hex(8)}"


def _write_new(path: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, _FILE_MODE), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), _FILE_MODE)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _clear(directory: Path) -> None:
    for entry in list(os.scandir(directory)):
        Path(entry.path).unlink()
    directory.rmdir()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
