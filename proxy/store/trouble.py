"""Errors of the disk, translated where they enter."""

import errno
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.metrics import CACHE_WRITE_ERROR_AT, CACHE_WRITE_ERRORS
from proxy.store.blobs import StoreError

_REASONS = {
    errno.ENOSPC: "enospc",
    errno.EDQUOT: "edquot",
    errno.EIO: "eio",
    errno.EROFS: "erofs",
    errno.EMFILE: "emfile",
    errno.ENFILE: "emfile",
}
REASONS = (*sorted(set(_REASONS.values())), "timeout", "other")
"""Every reason that a StoreError can have."""


_SQLITE_REASONS = {
    sqlite3.SQLITE_FULL: "enospc",
    sqlite3.SQLITE_IOERR: "eio",
    sqlite3.SQLITE_READONLY: "erofs",
}
_PRIMARY = 0xFF
"""The bits of an SQLite error code that are not details."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an OSError or an error of SQLite inside into a StoreError that says what was tried."""
    try:
        yield
    except sqlite3.Error as error:
        reason = _SQLITE_REASONS.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY, "other")
        raise StoreError(f"{what}: {error}", reason) from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, "other")
        raise StoreError(f"{what}: {error.strerror or error}", reason) from error


def note_unkept(error: StoreError) -> None:
    """Count something that could not be stored."""
    CACHE_WRITE_ERRORS.labels(error.reason).inc()
    CACHE_WRITE_ERROR_AT.labels(error.reason).set(time.time())
