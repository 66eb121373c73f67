"""The file of the index: opened, checked, and rebuilt from the store's files if it is unusable.

SQLite removes its log by name when it closes a database, so a database may be replaced only while no process has it
open: each process that does holds a shared lock on `index.lock`. Blocking calls, to be made in one thread.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from proxy.config.cache import Cache
from proxy.oci.reference import Digest
from proxy.store import eviction_order
from proxy.store.files import FILE_MODE, open_lock, try_lock
from proxy.store.layout import ALGORITHMS, PREFIXES, Layout

OPEN_SECONDS = 10.0
"""How long opening waits for other processes: for one that builds the index, or for all to close a damaged one."""
VERSION = 4
"""Version of the tables; an index of another version is rebuilt."""

INSERT_LINK = "INSERT OR IGNORE INTO links (repository, digest, kind) VALUES (?, ?, ?)"

PAGE_SIZE = 4096
LOG_PAGES = 256
"""Pages of changes after which SQLite checkpoints its log: the log stays at about 1 MiB."""
INDEX_SHARE = 0.1
"""Maximum share of the store's size for the index."""
LINKS_STEP = 1000
"""Links between two size checks during a rebuild."""

_SUFFIXES = ("-wal", "-shm", "-journal", "")
_PAUSE = 0.05
_TABLES = f"""{eviction_order.TABLES}
CREATE TABLE links (number INTEGER PRIMARY KEY, repository TEXT, digest TEXT, kind TEXT,
  UNIQUE (repository, digest, kind));
CREATE TABLE totals (bytes INTEGER NOT NULL, objects INTEGER NOT NULL);
"""
_BESIDE = (
    "CREATE INDEX objects_used ON objects (used)",
    "INSERT INTO totals SELECT coalesce(sum(size), 0), count(*) FROM objects",
    """CREATE TRIGGER added AFTER INSERT ON objects BEGIN
  UPDATE totals SET bytes = bytes + NEW.size, objects = objects + 1; END""",
    """CREATE TRIGGER resized AFTER UPDATE OF size ON objects WHEN NEW.size != OLD.size BEGIN
  UPDATE totals SET bytes = bytes + NEW.size - OLD.size; END""",
    """CREATE TRIGGER removed AFTER DELETE ON objects BEGIN
  UPDATE totals SET bytes = bytes - OLD.size, objects = objects - 1; END""",
)
"""Run after the first rows are inserted: maintained for each of them, it would double the cost."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR})
_PRIMARY = 0xFF

_logger = logging.getLogger(__name__)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is damaged; False for errors of the disk and of locking."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGED


@dataclass(frozen=True, slots=True)
class IndexBounds:
    """Limits of an index: the digests of one manifest, the bytes of the whole index, and the number of links."""

    manifest_digests: int = 2000
    size: int = 512 << 20
    links: int = 1_000_000
    """A link that was deleted costs one HEAD."""
    tags_expire: bool = True
    """Whether a tag that the upstream has not confirmed for long is deleted; not with `cache.offline`."""

    @classmethod
    def of(cls, cache: Cache) -> Self:
        """The bounds for a configuration: a share of the store's size."""
        size = min(cls().size, int(cache.max_size * INDEX_SHARE))
        return cls(cache.max_manifest_digests, size, tags_expire=not cache.offline)


@dataclass(frozen=True, slots=True)
class IndexTimes:
    """Timeouts and intervals of an index, in seconds."""

    busy: float = 10.0
    """How long a write waits for another process."""
    touch: float = 10.0
    """Interval at which the times of use are written, all in one transaction."""
    retry: float = 5.0
    """Pause before another attempt to open an index that could not be opened."""


class IndexFile:
    """An open index."""

    def __init__(self, layout: Layout, bounds: IndexBounds, busy_seconds: float) -> None:
        self._layout = layout
        self._bounds = bounds
        self._busy_seconds = busy_seconds
        self._lock = open_lock(layout.index.with_name("index.lock"))
        try:
            self.connection = self._open()
            self._status = layout.index.lstat()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def is_current(self) -> bool:
        """Whether it is still the file with its name, and no process has marked it damaged; raises OSError."""
        try:
            status = self._layout.index.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(status, self._status) and not _damaged(self._layout).exists()

    def close(self) -> None:
        """Close it; raises sqlite3.Error."""
        try:
            self.connection.close()
        finally:
            os.close(self._lock)

    def destroy(self) -> None:
        """Mark it damaged and close it; it is rebuilt once all processes have closed it."""
        if self.is_current:
            _damaged(self._layout).touch(mode=FILE_MODE)
        self.close()

    def _open(self) -> sqlite3.Connection:
        deadline = time.monotonic() + OPEN_SECONDS
        while time.monotonic() < deadline:
            if try_lock(self._lock, fcntl.LOCK_SH):
                connection = _connect(self._layout, self._busy_seconds)
                if connection is not None:
                    return connection
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            if try_lock(self._lock, fcntl.LOCK_EX):
                _rebuild(self._layout, self._bounds, self._busy_seconds)
                deadline = time.monotonic() + OPEN_SECONDS  # a rebuild does not count as waiting
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            else:
                time.sleep(_PAUSE)
        raise sqlite3.OperationalError("it is damaged, and other processes have it open")


def _connect(layout: Layout, busy_seconds: float) -> sqlite3.Connection | None:
    """A connection to a usable index; None if there is none. Raises sqlite3.Error and OSError."""
    if not layout.index.exists() or _damaged(layout).exists():
        return None
    connection = sqlite3.connect(layout.index, timeout=busy_seconds, isolation_level=None)
    try:
        if connection.execute("PRAGMA user_version").fetchone() == (VERSION,):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_PAGES * PAGE_SIZE}")
            if connection.execute("SELECT count(*) FROM totals").fetchone() == (1,):
                return connection
    except sqlite3.Error as error:
        if not is_damage(error):
            connection.close()
            raise
        _logger.warning("the index of the cache is damaged: %s", error)
    connection.close()
    return None


def _damaged(layout: Layout) -> Path:
    return layout.index.with_name("index.damaged")


def forget_oldest_links(connection: sqlite3.Connection, bounds: IndexBounds) -> None:
    """Within a transaction: delete the oldest links and contents until the index is within its size limit."""
    while bytes_in_use(connection) > bounds.size:
        tables = [
            (table, *connection.execute(f"SELECT min(number), max(number) FROM {table}").fetchone())  # noqa: S608
            for table in ("links", "contents")
        ]
        for table, first, last in tables:
            if first is not None:
                connection.execute(f"DELETE FROM {table} WHERE number <= ?", (first + (last - first) // 4,))  # noqa: S608
        if all(first is None for _, first, _ in tables):
            return


def bytes_in_use(connection: sqlite3.Connection) -> int:
    """Bytes of the used pages of the index; without its log, which has at most about 1 MiB."""
    [pages, free, size] = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _rebuild(layout: Layout, bounds: IndexBounds, busy_seconds: float) -> None:
    """Rebuild the index, unless another process has just done so. No other process may have it open."""
    connection = _connect(layout, busy_seconds)
    if connection is not None:
        connection.close()
        return
    for suffix in _SUFFIXES:
        layout.index.with_name(layout.index.name + suffix).unlink(missing_ok=True)
    os.close(os.open(layout.index, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    connection = sqlite3.connect(layout.index, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_TABLES)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO objects (digest, size, used) VALUES (?, ?, ?)", _objects(layout))
        rows = 0
        for key, manifest, links in layout.marked_manifests(bounds.manifest_digests):
            connection.executemany(INSERT_LINK, [(key, link.digest.text, link.kind) for link in links])
            eviction_order.add_contents(connection, manifest.text, links)
            rows += len(links)
            if rows > LINKS_STEP:
                rows = 0
                forget_oldest_links(connection, bounds)
        for statement in _BESIDE:
            connection.execute(statement)
        for statement in eviction_order.COUNTS:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")  # last: so an interrupted rebuild is not a valid index
        connection.execute("COMMIT")
    finally:
        connection.close()
    _damaged(layout).unlink(missing_ok=True)


def _objects(layout: Layout) -> Iterator[tuple[str, int, float]]:
    for algorithm in ALGORITHMS:
        for prefix in PREFIXES:
            for digest, entry in layout.entries_in(algorithm, prefix):
                with contextlib.suppress(FileNotFoundError):  # removed since
                    status = entry.stat(follow_symlinks=False)
                    yield digest.text, status.st_size, status.st_mtime


def size_and_time(layout: Layout, digest: Digest) -> tuple[int, float] | None:
    """The size of a stored blob, and when it was written; None if it is not stored. Raises OSError."""
    try:
        status = layout.blob(digest).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_size, status.st_mtime) if stat.S_ISREG(status.st_mode) else None
