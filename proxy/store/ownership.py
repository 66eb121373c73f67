"""Whose the files of a store are: what others own or may write is refused, since they could put content there.

Blocking calls.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from proxy.store.blobs import StoreError

NAMES = ("blobs", "ingest", "repositories", "provenance", "suspects", "index.*", "format*", "evict.lock", "changed")
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
