"""Files: blocking calls, to be made in a thread, that follow no symbolic link."""

import contextlib
import ctypes
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
PARENT_MODE = 0o755
"""Of the folders above a store's: who may write there could exchange the store."""
PIECES_LIMIT = 64
"""Pieces that are written by one call; the system takes 1024, a download comes with fewer than this."""


def open_regular(path: Path) -> int | None:
    """A descriptor to read a regular file; None where there is none, or something else. Raises OSError."""
    try:
        # Without O_NONBLOCK a pipe in the place of a file would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None  # another process may make it at this very moment: then it was not there yet
    except OSError:
        if regular_size(path) is None:
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def regular_size(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none, or something else. Raises OSError."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def read_small(path: Path, limit: int) -> bytes | None:
    """A regular file up to `limit` bytes; None where there is none, or a longer one. Raises OSError."""
    descriptor = open_regular(path)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    return content if len(content) <= limit else None


def write_at(descriptor: int, offset: int, pieces: Sequence[bytes]) -> int:
    """Write the pieces one behind the other, whole; the offset behind them. Raises OSError."""
    waiting = [memoryview(piece) for piece in pieces if piece]
    while waiting:
        written = os.pwritev(descriptor, waiting[:PIECES_LIMIT], offset)
        offset += written
        while waiting and written >= len(waiting[0]):
            written -= len(waiting.pop(0))
        if written:  # the disk took a part of it: the rest says why
            waiting[0] = waiting[0][written:]
    return offset


def replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file in one step: readers see the old one or the new one. Raises OSError."""
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
        sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder below one that exists, for good; raises OSError, for a symbolic link as well."""
    try:
        path.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise
    else:
        sync_folder(path.parent)


def make_root(path: Path, mode: int = DIRECTORY_MODE) -> None:
    """Make a folder and those above it, which only the owner can change whatever the umask; raises OSError."""
    try:
        path.mkdir(mode, exist_ok=True)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_root(path.parent, PARENT_MODE)
        path.mkdir(mode, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def children(path: Path) -> list[os.DirEntry[str]]:
    """What is in a folder now; nothing where there is none. Raises OSError."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextlib.contextmanager
def locked_file(path: Path, operation: int) -> Iterator[bool]:
    """Whether the lock on a file could be had at once; it is held inside. The file stays. Raises OSError."""
    descriptor = open_lock(path)
    try:
        yield try_lock(descriptor, operation)
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """A descriptor of a file that is only there to be locked; raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)


def try_lock(descriptor: int, operation: int) -> bool:
    """Lock it if that can be had at once; raises OSError."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


STEP = 32 * 1024 * 1024
"""Bytes between two requests; smaller files are written out at their end."""
_WRITE = 2
"""SYNC_FILE_RANGE_WRITE: begin, and wait for nothing (Linux)."""

_SyncFileRange = Callable[[int, ctypes.c_longlong, ctypes.c_longlong, int], int]


class Writeback:
    """How far a file has been handed to the disk."""

    def __init__(self, start: int) -> None:
        self._begun = start

    def follow(self, descriptor: int, size: int) -> None:
        """Have what is whole steps begin its way to the disk. A hint: where it is not taken, the fsync does all."""
        end = size - size % STEP
        if end > self._begun:
            begin = _system_call()
            if begin is not None:
                begin(descriptor, ctypes.c_longlong(self._begun), ctypes.c_longlong(end - self._begun), _WRITE)
            self._begun = end


@cache
def _system_call() -> _SyncFileRange | None:
    """The C library's function; None where there is none (it is Linux's own)."""
    try:
        function: _SyncFileRange = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    return function
