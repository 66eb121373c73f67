"""Who downloads a digest: one process of this machine, by a lock that ends with it, however it ends.

The lock's file also tells followers in other processes what they must know: how many bytes will come, which file was
committed in the end, and which endpoint sends them. Two fields of 20 characters and one of 300. Blocking calls, to be
made in a thread; all raise OSError.
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
"""Times that a file is opened which its holder removes at the same moment."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A held lock."""

    path: Path
    descriptor: int

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """The lock, or None where another process or task holds it."""
        for _ in range(_ATTEMPTS):
            descriptor = open_lock(path)
            try:
                if not try_lock(descriptor, fcntl.LOCK_EX):
                    break
                if is_at(descriptor, path):
                    os.ftruncate(descriptor, 0)
                    lease, descriptor = cls(path, descriptor), -1
                    return lease
                # The holder before us removed the file between our opening and our locking it.
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        return None

    def tell(self, total: int) -> None:
        """Leave the size of the whole for followers; -1 where nobody knows it."""
        os.pwrite(self.descriptor, f"{total:<{_FIELD}}".encode(), 0)

    def tell_origin(self, origin: str) -> None:
        """Leave for followers which endpoint sends the bytes."""
        os.pwrite(self.descriptor, f"{origin:<{_ORIGIN_FIELD}}".encode(), 2 * _FIELD)

    def tell_committed(self, descriptor: int) -> None:
        """Leave for followers that this file is complete and right."""
        os.pwrite(self.descriptor, f"{os.fstat(descriptor).st_ino:<{_FIELD}}".encode(), _FIELD)

    def release(self) -> None:
        """Give the lock up, and remove its file."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease as others see it; it can be looked at even after its file was removed."""

    descriptor: int

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """The view of a lease; None where there is none."""
        descriptor = open_regular(path)
        return None if descriptor is None else cls(descriptor)

    def is_held(self) -> bool:
        """Whether somebody holds it. A shared lock asks, so that those who ask are not in each other's way."""
        if not try_lock(self.descriptor, fcntl.LOCK_SH):
            return True
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        return False

    def told(self) -> int | None:
        """The size of the whole; -1 where nobody knows it, None where the holder has not said yet."""
        return self._field(0)

    def origin(self) -> str:
        """The endpoint that sends the bytes; empty where the holder has not said."""
        return os.pread(self.descriptor, _ORIGIN_FIELD, 2 * _FIELD).decode("ascii", "replace").strip("\0 ")

    def committed(self, descriptor: int) -> bool:
        """Whether the holder has left that this file is complete and right."""
        return self._field(_FIELD) == os.fstat(descriptor).st_ino

    def close(self) -> None:
        """Look no more."""
        os.close(self.descriptor)

    def _field(self, offset: int) -> int | None:
        text = os.pread(self.descriptor, _FIELD, offset).decode("ascii", "replace").strip("\0 ")
        return int(text) if text.removeprefix("-").isdecimal() else None


def told(path: Path) -> int | None:
    """What the holder of a lease has left about the size; None where it has left nothing, or there is no lease."""
    view = LeaseView.open(path)
    if view is None:
        return None
    try:
        return view.told()
    finally:
        view.close()


def is_held(path: Path) -> bool:
    """Whether somebody holds the lease."""
    view = LeaseView.open(path)
    if view is None:
        return False
    try:
        return view.is_held()
    finally:
        view.close()


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
