import errno
import os
import sqlite3

import pytest

from proxy.store.blobs import StoreError
from proxy.store.disk import REASONS, store_errors

CODES = {
    errno.ENOSPC: "enospc",
    errno.EDQUOT: "edquot",
    errno.EIO: "eio",
    errno.EROFS: "erofs",
    errno.EMFILE: "emfile",
    errno.ENFILE: "emfile",
    errno.EPERM: "other",
}
SQLITE = {
    sqlite3.SQLITE_FULL: "enospc",
    sqlite3.SQLITE_IOERR: "eio",
    sqlite3.SQLITE_IOERR_FSYNC: "eio",
    sqlite3.SQLITE_READONLY: "erofs",
    sqlite3.SQLITE_BUSY: "other",
}


@pytest.mark.parametrize("code", CODES)
def test_errors_of_the_system_have_a_reason(code: int) -> None:
    with (
        pytest.raises(StoreError, match=f"^cannot do it: {os.strerror(code)}$") as caught,
        store_errors("cannot do it"),
    ):
        raise OSError(code, os.strerror(code), "/a/path")
    assert caught.value.reason == CODES[code]
    assert caught.value.reason in REASONS


@pytest.mark.parametrize("code", SQLITE)
def test_errors_of_sqlite_have_a_reason(code: int) -> None:
    error = sqlite3.OperationalError("what it says")
    error.sqlite_errorcode = code
    with pytest.raises(StoreError, match=r"^cannot do it: what it says$") as caught, store_errors("cannot do it"):
        raise error
    assert caught.value.reason == SQLITE[code]


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), store_errors("cannot do it"):
        raise KeyError
    with store_errors("cannot do it"):
        pass
