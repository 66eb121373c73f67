"""The store's directory: its owners and its format version are checked; a store of another version is replaced."""

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
from proxy.store.disk import translated
from proxy.store.files import DIRECTORY_MODE, locked_file, make_folder, make_root, read_small, replace
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
"""What to do about an exposed directory."""


def ownership_problem(root: Path) -> str | None:
    """What of a store in this directory is not its owner's alone, and what to do; None where all is. Raises OSError."""
    user, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    for path, status in _made(root):
        if status.st_uid != user:
            return (
                f"{path} belongs to user {status.st_uid}, and scope-proxy runs as user {user}: others may have put "
                f"content there. Empty {root}, or give it to user {user} if you know what is in it"
            )
        if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid not in groups):
            return (
                f"{path} may be written by others (mode {stat.S_IMODE(status.st_mode):o}): they may have put content "
                f"there. Empty {root}, or run chmod -R go-w on it if you know what is in it"
            )
    return None


def refuse_others(root: Path) -> None:
    """Raise StoreError where something of a store in this directory is not its owner's alone, with what to do.

    What a group of ours may write is closed to it and used: Kubernetes opens the files of a volume to its `fsGroup` at
    each mount. Raises OSError.
    """
    problem = ownership_problem(root)
    if problem is not None:
        raise StoreError(problem)
    for path, status in _made(root):
        if status.st_mode & stat.S_IWGRP:
            with suppress(FileNotFoundError):
                path.chmod(stat.S_IMODE(status.st_mode) & ~(stat.S_IRWXG | stat.S_IRWXO))


def _made(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What a store has made in its directory; links are never followed: whoever opens one says so.

    What is gone since it was listed is passed over: another process that starts may be moving an older store away.
    """
    for path in sorted(path for pattern in NAMES for path in root.glob(pattern)):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISLNK(status.st_mode):
            yield path, status


def exposure(root: Path) -> str | None:
    """Who could replace the store in this directory, in words; None where nobody could, or nobody can tell."""
    try:
        mode = root.stat().st_mode
    except OSError:
        return None
    if not mode & stat.S_IWOTH or mode & stat.S_ISVTX:
        return None
    writers = f"every user of this machine (mode {stat.S_IMODE(mode):o})"
    return f"{root} may be written by {writers}, who could replace the cache"


FORMAT = "2"
"""Version of the layout: an older store is emptied, a newer or unknown one is set aside; none is misread."""
LOCK_SECONDS = 10.0
"""How long a start waits for another process that starts."""

_MARKER = "format"
_LOCK = "format.lock"
_ASIDE = "set-aside-"
EMPTIED = "emptied-"
"""Prefix of directories with the content of older stores, which is removed in the background."""
_FORMAT_LIMIT = 64
_OURS = ("blobs", "ingest", "repositories", "index.sqlite")
_PAUSE = 0.05
_IS_LINK = "the cache at {root} is a symbolic link: name the folder itself"


@dataclass(frozen=True, slots=True)
class Replaced:
    """A store of another version: where it was moved to, and whether it is kept there."""

    path: Path
    is_kept: bool


def open_folder(layout: Layout) -> Replaced | None:
    """Make the directories of a store; what became of a store of another version that was there.

    Blocking. Raises StoreError, also for files that others own or may write, and for those of another program.
    """
    root = layout.root
    with translated(f"cannot use the cache at {root}"):
        if root.is_symlink():
            raise StoreError(_IS_LINK.format(root=root))
        make_root(root)
        refuse_others(root)
        deadline = time.monotonic() + LOCK_SECONDS
        while time.monotonic() < deadline:
            with locked_file(root / _LOCK, fcntl.LOCK_EX) as locked:
                if locked:
                    replaced = _replace(root)
                    for folder in layout.folders:
                        make_folder(folder)
                    return replaced
            time.sleep(_PAUSE)
    raise StoreError(f"another process has been opening the cache at {root} for more than {LOCK_SECONDS:.0f} s")


def store_problem(layout: Layout) -> str | None:
    """Why this process could not open the store's folder, as far as it shows without a change; blocks."""
    root = layout.root
    try:
        if root.is_symlink():
            return _IS_LINK.format(root=root)
        if not root.exists():
            parent = next(folder for folder in root.parents if folder.exists())
            can_make = parent.is_dir() and _is_writable(parent)
            return None if can_make else f"{root} is missing, and this process cannot make it in {parent}"
        if not root.is_dir():
            return f"{root} is no directory"
        unmanaged = _unmanaged(root) if _found(root) is None else None
        # Run by another user than the store's it cannot tell whose everything should be.
        owned = ownership_problem(root) if root.stat().st_uid == os.geteuid() else None
        return unmanaged or owned or _unwritable(layout)
    except OSError as error:
        return f"this process cannot look into {root}: {error.strerror}"


def _unwritable(layout: Layout) -> str | None:
    """What of a store this process could not write; raises OSError."""
    root = layout.root
    inside = (root / _LOCK, root / _MARKER, layout.index, *layout.folders)
    for path in (root, *inside):
        if path.exists() and not _is_writable(path):
            return f"this process cannot write {path}"
    return None


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK | os.X_OK if path.is_dir() else os.W_OK)


def _unmanaged(root: Path) -> str | None:
    """What keeps a directory without our marker from becoming a store; raises OSError."""
    strange = [name for name in _OURS if (root / name).exists()]
    if not strange:
        return None
    return (
        f"the folder {root} has {' and '.join(strange)} in it, but no file {_MARKER!r}: it is no cache of this "
        "program; name an empty folder, or empty it"
    )


def _replace(root: Path) -> Replaced | None:
    found = _found(root)
    if found == FORMAT:
        return None
    replaced = None
    if found is not None:
        is_older = found.isdecimal() and int(found) < int(FORMAT)
        replaced = Replaced(_new_folder(root, f"{EMPTIED if is_older else _ASIDE}format-{found}"), not is_older)
        for child in list(root.iterdir()):
            if child.name not in {_LOCK, "lost+found"} and not child.name.startswith((_ASIDE, EMPTIED)):
                child.rename(replaced.path / child.name)
    elif (problem := _unmanaged(root)) is not None:
        raise StoreError(problem)
    replace(root / _MARKER, f"{FORMAT}\n".encode(), durable=True)
    return replaced


def _found(root: Path) -> str | None:
    """The version that the marker tells; None without a marker, `unknown` for one that is not ours."""
    marker = root / _MARKER
    if not marker.exists() and not marker.is_symlink():
        return None
    text = (read_small(marker, _FORMAT_LIMIT) or b"").decode("ascii", "replace").strip()
    return text if re.fullmatch(r"[0-9A-Za-z.]{1,16}", text) else "unknown"


def _new_folder(root: Path, name: str) -> Path:
    number = 1
    while True:
        folder = root / f"{name}-{number}"
        try:
            folder.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            number += 1
        else:
            return folder
