"""Leases: one process of this machine downloads a digest, under a file lock that the kernel releases when it ends.

The lock file also has what followers in other processes need: the total size, the inode of the committed file (two
fields of 20 characters), and the endpoint that sends the bytes (a field of 300). Blocking calls, to be made in a
thread; all raise OSError.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from proxy.store.files import open_lock, open_regular, try_lock

_FIELD = 20
_ORIGIN_FIELD = 300
_ATTEMPTS = 10
"""Attempts to lock a file that its holder removes at the same moment."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A held lock."""

    path: Path
    descriptor: int

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Take the lock; None if another process or task holds it."""
        for _ in range(_ATTEMPTS):
            descriptor = open_lock(path)
            try:
                if not try_lock(descriptor, fcntl.LOCK_EX):
                    break
                if is_at(descriptor, path):
                    os.ftruncate(descriptor, 0)
                    lease, descriptor = cls(path, descriptor), -1
                    return lease
                # The previous holder removed the file after this open and before this lock: try again.
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        return None

    def report_size(self, total: int) -> None:
        """Report the total size to followers; -1 if it is unknown."""
        os.pwrite(self.descriptor, f"{total:<{_FIELD}}".encode(), 0)

    def report_origin(self, origin: str) -> None:
        """Report to followers which endpoint sends the bytes."""
        os.pwrite(self.descriptor, f"{origin:<{_ORIGIN_FIELD}}".encode(), 2 * _FIELD)

    def report_committed(self, descriptor: int) -> None:
        """Report to followers that this file is complete and verified."""
        os.pwrite(self.descriptor, f"{os.fstat(descriptor).st_ino:<{_FIELD}}".encode(), _FIELD)

    def release(self) -> None:
        """Release the lock and remove its file."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease as followers see it; it stays readable after its file is removed."""

    descriptor: int

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """The view of a lease; None if there is none."""
        descriptor = open_regular(path)
        return None if descriptor is None else cls(descriptor)

    def is_held(self) -> bool:
        """Whether a writer holds it. Tested with a shared lock, so that followers do not see each other's tests."""
        if not try_lock(self.descriptor, fcntl.LOCK_SH):
            return True
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        return False

    def reported_size(self) -> int | None:
        """The total size; -1 if it is unknown, None if the holder has not reported it yet."""
        return self._field(0)

    def origin(self) -> str:
        """The endpoint that sends the bytes; empty if the holder has not reported it."""
        return os.pread(self.descriptor, _ORIGIN_FIELD, 2 * _FIELD).decode("ascii", "replace").strip("\0 ")

    def committed(self, descriptor: int) -> bool:
        """Whether the holder has reported that this file is complete and verified."""
        return self._field(_FIELD) == os.fstat(descriptor).st_ino

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def _field(self, offset: int) -> int | None:
        text = os.pread(self.descriptor, _FIELD, offset).decode("ascii", "replace").strip("\0 ")
        return int(text) if text.removeprefix("-").isdecimal() else None


def reported_size(path: Path) -> int | None:
    """The total size that the holder of a lease has reported; None if it has not, or if there is no lease."""
    view = LeaseView.open(path)
    if view is None:
        return None
    try:
        return view.reported_size()
    finally:
        view.close()


def is_held(path: Path) -> bool:
    """Whether a writer holds the lease."""
    view = LeaseView.open(path)
    if view is None:
        return False
    try:
        return view.is_held()
    finally:
        view.close()


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
