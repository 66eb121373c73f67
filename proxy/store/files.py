"""File operations that follow no symbolic link; they block, so call them in a thread."""

import contextlib
import ctypes
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
PARENT_MODE = 0o755
"""Mode of the directories above the store's: a user who can write there could replace the store."""
PIECES_LIMIT = 64
"""Pieces per system call; the system accepts 1024, and a download passes fewer than this."""


def open_regular(path: Path) -> int | None:
    """A descriptor to read a regular file; None if there is no regular file. Raises OSError."""
    try:
        # Without O_NONBLOCK, opening a pipe in the place of a file would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None  # another process may create it at this moment: then it did not exist yet
    except OSError:
        if regular_size(path) is None:
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def regular_size(path: Path) -> int | None:
    """Bytes of a regular file; None if there is no regular file. Raises OSError."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def read_small(path: Path, limit: int) -> bytes | None:
    """The content of a regular file of at most `limit` bytes; None if there is none. Raises OSError."""
    descriptor = open_regular(path)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    return content if len(content) <= limit else None


def read_field(path: Path, name: str, limit: int) -> str | None:
    """The text of one field of a JSON file up to `limit` bytes; None where there is no such text. Raises OSError."""
    try:
        value = json.loads(read_small(path, limit) or b"")[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def write_at(descriptor: int, offset: int, pieces: Sequence[bytes]) -> int:
    """Write all pieces one after the other; returns the offset after them. Raises OSError."""
    waiting = [memoryview(piece) for piece in pieces if piece]
    while waiting:
        written = os.pwritev(descriptor, waiting[:PIECES_LIMIT], offset)
        offset += written
        while waiting and written >= len(waiting[0]):
            written -= len(waiting.pop(0))
        if written:  # a short write: writing the rest gives the error
            waiting[0] = waiting[0][written:]
    return offset


def replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file atomically: readers see the old or the new content. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    if durable:
        sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Create a directory durably in an existing one; raises OSError, also for a symbolic link."""
    try:
        path.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise
    else:
        sync_directory(path.parent)


def make_root(path: Path, mode: int = DIRECTORY_MODE) -> None:
    """Create a directory and its parents, writable for the owner only, whatever the umask; raises OSError."""
    try:
        path.mkdir(mode, exist_ok=True)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_root(path.parent, PARENT_MODE)
        path.mkdir(mode, exist_ok=True)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def children(path: Path) -> list[os.DirEntry[str]]:
    """The entries of a directory; empty if there is none. Raises OSError."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextlib.contextmanager
def locked_file(path: Path, operation: int) -> Iterator[bool]:
    """Try to lock a file for the block, without waiting; yields whether it is locked. Raises OSError."""
    descriptor = open_lock(path)
    try:
        yield try_lock(descriptor, operation)
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """A descriptor of a lock file, created if missing; raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)


def try_lock(descriptor: int, operation: int) -> bool:
    """Try to lock an open file without waiting; returns whether it is locked. Raises OSError."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


STEP = 32 * 1024 * 1024
"""Bytes between two calls; the final fsync alone writes out smaller files."""
_WRITE = 2
"""SYNC_FILE_RANGE_WRITE: start the writeback without waiting (Linux)."""

_SyncFileRange = Callable[[int, ctypes.c_longlong, ctypes.c_longlong, int], int]


@cache
def sync_file_range() -> _SyncFileRange | None:
    """The C library's `sync_file_range`; None if it has none (only Linux has it)."""
    try:
        function: _SyncFileRange = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    return function


class Writeback:
    """Starts the writeback of a growing file early, so that the final fsync has less to do."""

    def __init__(self, start: int, system_call: Callable[[], _SyncFileRange | None] = sync_file_range) -> None:
        self._begun = start
        self._system_call = system_call

    def follow(self, descriptor: int, size: int) -> None:
        """Start the writeback of all complete steps. A hint: if the system ignores it, the fsync writes everything."""
        end = size - size % STEP
        if end > self._begun:
            begin = self._system_call()
            if begin is not None:
                begin(descriptor, ctypes.c_longlong(self._begun), ctypes.c_longlong(end - self._begun), _WRITE)
            self._begun = end
