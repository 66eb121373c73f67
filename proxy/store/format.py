"""The store's directory: checks its owner and its format version, and replaces a store of another version."""

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from proxy.store.blobs import StoreError
from proxy.store.disk import store_errors
from proxy.store.files import DIRECTORY_MODE, locked_file, make_directory, make_root, read_small, replace
from proxy.store.layout import Layout

NAMES = (
    "blobs",
    "ingest",
    "repositories",
    "provenance",
    "suspects",
    "pins",
    "index.*",
    "format*",
    "evict.lock",
    "changed",
)
"""What a store makes in its directory, as patterns of names."""

EXPOSURE_ADVICE = "name a directory below it, which scope-proxy makes for itself alone, or run chmod o-w"
"""How to fix an exposed directory."""


def ownership_problem(root: Path) -> str | None:
    """Which file of the store others own or can write, and what to do; None if there is none. Raises OSError."""
    user, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    for path, status in _managed_paths(root):
        if status.st_uid != user:
            return (
                f"{path} belongs to user {status.st_uid}, but scope-proxy runs as user {user}: others may have stored "
                f"content there. Empty {root}, or run chown -R {user} on it if you trust its content"
            )
        if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid not in groups):
            return (
                f"{path} is writable by others (mode {stat.S_IMODE(status.st_mode):o}): they may have stored content "
                f"there. Empty {root}, or run chmod -R go-w on it if you trust its content"
            )
    return None


def refuse_others(root: Path) -> None:
    """Raise StoreError if others own or can write a file of the store; the message says what to do.

    Files that a group of this process can write lose that permission and are used: at each mount Kubernetes makes the
    files of a volume writable for its `fsGroup`. Raises OSError.
    """
    problem = ownership_problem(root)
    if problem is not None:
        raise StoreError(problem)
    for path, status in _managed_paths(root):
        if status.st_mode & stat.S_IWGRP:
            with suppress(FileNotFoundError):
                path.chmod(stat.S_IMODE(status.st_mode) & ~(stat.S_IRWXG | stat.S_IRWXO))


def _managed_paths(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files and directories of the store, without symbolic links: opening one of those fails anyway.

    Skips what is removed during the listing: another process that starts may be moving an older store away.
    """
    for path in sorted(path for pattern in NAMES for path in root.glob(pattern)):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISLNK(status.st_mode):
            yield path, status


def exposure(root: Path) -> str | None:
    """Which users could replace the store in this directory, as a sentence; None if none could, or it is unreadable."""
    try:
        mode = root.stat().st_mode
    except OSError:
        return None
    if not mode & stat.S_IWOTH or mode & stat.S_ISVTX:
        return None
    writers = f"every user of this machine (mode {stat.S_IMODE(mode):o})"
    return f"{root} is writable by {writers}, who could replace the cache"


FORMAT = "2"
"""Version of the layout: an older store is emptied, a newer or unknown one is set aside."""
LOCK_SECONDS = 10.0
"""How long a start waits for another process that starts."""

_MARKER = "format"
_LOCK = "format.lock"
_ASIDE = "set-aside-"
EMPTIED = "emptied-"
"""Prefix of directories with the content of older stores, which are removed in the background."""
_FORMAT_LIMIT = 64
_STORE_NAMES = ("blobs", "ingest", "repositories", "index.sqlite")
_PAUSE = 0.05
_IS_LINK = "the cache at {root} is a symbolic link: configure the path of the directory itself"


@dataclass(frozen=True, slots=True)
class ReplacedStore:
    """A store of another version: where it was moved to, and whether it is kept."""

    path: Path
    is_kept: bool


def open_directory(layout: Layout, lock_seconds: float = LOCK_SECONDS) -> ReplacedStore | None:
    """Create the directories of a store; returns the store of another version that it replaced, if any.

    Blocking. Raises StoreError, also for files that others own or can write, and for files of another program.
    """
    root = layout.root
    with store_errors(f"cannot use the cache at {root}"):
        if root.is_symlink():
            raise StoreError(_IS_LINK.format(root=root))
        make_root(root)
        refuse_others(root)
        deadline = time.monotonic() + lock_seconds
        while time.monotonic() < deadline:
            with locked_file(root / _LOCK, fcntl.LOCK_EX) as locked:
                if locked:
                    replaced = _replace(root)
                    for directory in layout.directories:
                        make_directory(directory)
                    return replaced
            time.sleep(_PAUSE)
    raise StoreError(f"another process has been opening the cache at {root} for more than {lock_seconds:.0f} s")


def store_problem(layout: Layout) -> str | None:
    """Why this process could not open the store, checked without changing anything; None if it could. Blocks."""
    root = layout.root
    try:
        if root.is_symlink():
            return _IS_LINK.format(root=root)
        if not root.exists():
            parent = next(directory for directory in root.parents if directory.exists())
            can_make = parent.is_dir() and _is_writable(parent)
            return None if can_make else f"{root} does not exist, and this process cannot create it in {parent}"
        if not root.is_dir():
            return f"{root} is not a directory"
        unmanaged = _unmanaged_problem(root) if _found_format(root) is None else None
        # Run by another user than the store's owner (`check`), the owner check has no meaning.
        owned = ownership_problem(root) if root.stat().st_uid == os.geteuid() else None
        return unmanaged or owned or _unwritable(layout)
    except OSError as error:
        return f"this process cannot read {root}: {error.strerror}"


def _unwritable(layout: Layout) -> str | None:
    """Which file of the store this process cannot write; None if it can write all. Raises OSError."""
    root = layout.root
    inside = (root / _LOCK, root / _MARKER, layout.index, *layout.directories)
    for path in (root, *inside):
        if path.exists() and not _is_writable(path):
            return f"this process cannot write {path}"
    return None


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK | os.X_OK if path.is_dir() else os.W_OK)


def _unmanaged_problem(root: Path) -> str | None:
    """Why a directory without a format marker cannot become a store; None if it can. Raises OSError."""
    unmanaged = [name for name in _STORE_NAMES if (root / name).exists()]
    if not unmanaged:
        return None
    return (
        f"the directory {root} contains {' and '.join(unmanaged)} but no file {_MARKER!r}: it is not a cache of "
        "scope-proxy; configure an empty directory, or empty this one"
    )


def _replace(root: Path) -> ReplacedStore | None:
    found = _found_format(root)
    if found == FORMAT:
        return None
    replaced = None
    if found is not None:
        is_older = found.isdecimal() and int(found) < int(FORMAT)
        replaced = ReplacedStore(_new_directory(root, f"{EMPTIED if is_older else _ASIDE}format-{found}"), not is_older)
        for child in list(root.iterdir()):
            if child.name not in {_LOCK, "lost+found"} and not child.name.startswith((_ASIDE, EMPTIED)):
                child.rename(replaced.path / child.name)
    elif (problem := _unmanaged_problem(root)) is not None:
        raise StoreError(problem)
    replace(root / _MARKER, f"{FORMAT}\n".encode(), durable=True)
    return replaced


def _found_format(root: Path) -> str | None:
    """The version in the marker file; None without a marker, `unknown` if it cannot be parsed."""
    marker = root / _MARKER
    if not marker.exists() and not marker.is_symlink():
        return None
    text = (read_small(marker, _FORMAT_LIMIT) or b"").decode("ascii", "replace").strip()
    return text if re.fullmatch(r"[0-9A-Za-z.]{1,16}", text) else "unknown"


def _new_directory(root: Path, name: str) -> Path:
    number = 1
    while True:
        directory = root / f"{name}-{number}"
        try:
            directory.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            number += 1
        else:
            return directory
