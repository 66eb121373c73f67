"""The index: sizes, times of last use and repositories of the stored blobs, in SQLite, rebuilt from the files.

One thread does all the work, so the event loop never waits for the disk. Several processes may have it open (WAL).
Each transaction checks the file before it writes or removes a row, so rows and files agree even if several processes
add and remove the same blob.
"""

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from proxy.observe.metrics import CACHE_BYTES, CACHE_OBJECTS
from proxy.oci.reference import Digest
from proxy.store import eviction_order
from proxy.store.blobs import StoreError
from proxy.store.disk import TimedThreads, store_errors
from proxy.store.eviction_order import Evictable, EvictionPosition
from proxy.store.format import open_directory
from proxy.store.index_file import (
    INSERT_LINK,
    IndexBounds,
    IndexFile,
    IndexTimes,
    bytes_in_use,
    forget_oldest_links,
    is_damage,
    size_and_time,
)
from proxy.store.layout import Layout, Link, digest_of
from proxy.store.maintenance import tidy

TOUCHED_LIMIT = 100_000
"""Maximum number of times of use that wait to be written."""

DEFAULT_BOUNDS = IndexBounds()
DEFAULT_TIMES = IndexTimes()
_UPSERT = """INSERT INTO objects (digest, size, used) VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET size = excluded.size, used = max(used, excluded.used)"""
_CORRECT_CLOCK = "UPDATE objects SET used = ? WHERE used > ?"
_DELETE_OLDEST_LINKS = "DELETE FROM links WHERE number <= (SELECT max(number) FROM links) - ?"
_BEFORE = 0.001
"""Seconds before the earliest new use: the time given to rows whose time of use is in the future."""
_DONE = object()
_TROUBLE = "cannot use the index of the cache"

_Result = TypeVar("_Result")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes and number of the stored blobs, and bytes of the index itself."""

    bytes: int
    objects: int
    index: int = field(default=0, compare=False)


class Index:
    """The index of one store; `thread` is an executor with one thread."""

    def __init__(
        self,
        layout: Layout,
        bounds: IndexBounds = DEFAULT_BOUNDS,
        times: IndexTimes = DEFAULT_TIMES,
        thread: Executor | None = None,
    ) -> None:
        self._layout = layout
        self.bounds = bounds
        self._times = times
        self._thread = thread or ThreadPoolExecutor(max_workers=1, thread_name_prefix="index")
        self._answers = TimedThreads(self._thread, late_limit=1)
        self._file: IndexFile | None = None
        self._failed_at = -math.inf
        self._is_closed = False
        self._touched: dict[Digest, float] = {}
        self._flushed_at = time.monotonic()
        self._tidied: Future[None] = Future()

    async def open(self) -> None:
        """Open it, and rebuild it from the files if it is missing or unreadable; raises StoreError.

        Then, in the background, it is compared with the files: after a crash it may lack some.
        """
        await self._run(self._opened)
        self._next_step(tidy(self._layout, self._compare, tags_expire=self.bounds.tags_expire))

    async def close(self) -> None:
        """Write pending times of use and close it."""
        touched = self._take_touched()
        self._is_closed = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close, touched)
        finally:
            self._thread.shutdown(wait=False)

    async def tidied(self) -> None:
        """Wait until the comparison with the files has ended."""
        await asyncio.shield(asyncio.wrap_future(self._tidied))

    def touch(self, digest: Digest) -> None:
        """Note that a digest was used now; written later. Also adds a stored blob that the index lacks."""
        if len(self._touched) < TOUCHED_LIMIT or digest in self._touched:
            self._touched[digest] = time.time()
        if time.monotonic() - self._flushed_at > self._times.touch and not self._is_closed:
            self._flushed_at = time.monotonic()
            self._thread.submit(self._flush_quietly, self._take_touched())

    async def add(self, digest: Digest) -> None:
        """Add a stored digest; raises StoreError."""
        await self._answer(self._note, {digest: time.time()})

    async def remove(self, digests: Iterable[Digest]) -> None:
        """Remove digests whose files were removed; raises StoreError."""
        await self._run(self._note, dict.fromkeys(digests, time.time()))

    async def totals(self) -> Totals:
        """The totals; also sets the gauges. Raises StoreError."""
        totals = await self._answer(self._totals)
        CACHE_BYTES.set(totals.bytes)
        CACHE_OBJECTS.set(totals.objects)
        return totals

    async def last_used(self, digests: Sequence[Digest]) -> dict[Digest, float]:
        """When digests were last used, in seconds since the epoch, of those that are stored; raises StoreError."""
        return await self._run(self._last_used, self._take_touched(), digests)

    async def evictable(self, position: EvictionPosition, size: int) -> tuple[Sequence[Evictable], EvictionPosition]:
        """The next objects to evict from a store of at most `size` bytes, and where to go on.

        Raises StoreError.
        """
        return await self._run(self._evictable, self._take_touched(), position, size)

    async def link(self, repository: str, links: Iterable[Link]) -> None:
        """Add links of a repository; raises StoreError."""
        await self._answer(self._link, [(repository, link.digest.text, link.kind) for link in links])

    async def add_manifest(self, manifest: Digest, links: Sequence[Link]) -> None:
        """Note that a stored digest is a manifest, and what it names: images are evicted as a whole.

        Raises StoreError.
        """
        await self._answer(self._add_manifest, manifest, links)

    async def is_linked(self, repository: str, link: Link) -> bool:
        """Whether the index has this link of a repository; raises StoreError."""
        query = "SELECT 1 FROM links WHERE repository = ? AND digest = ? AND kind = ?"
        return bool(await self._answer(self._read, query, (repository, link.digest.text, link.kind)))

    async def _run(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        if self._is_closed:
            raise StoreError(f"{_TROUBLE}: it is closed")
        with store_errors(_TROUBLE):
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, partial(self._retry_rebuilt, work, *arguments)
            )

    async def _answer(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """As `_run`, for work that a client waits for: also raises StoreError on a timeout."""
        if self._is_closed:
            raise StoreError(f"{_TROUBLE}: it is closed")
        with store_errors(_TROUBLE):
            return await self._answers.in_time(partial(self._retry_rebuilt, work, *arguments))

    def _retry_rebuilt(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Do the work; if the index turns out to be damaged, rebuild it and try once more."""
        try:
            return work(*arguments)
        except sqlite3.Error as error:
            if not is_damage(error) or self._file is None:
                raise
            _logger.warning("rebuilding the index of the cache, which is damaged: %s", error)
            self._drop_file(destroy=True)
            return work(*arguments)

    def _opened(self) -> sqlite3.Connection:
        if self._file is not None and not self._file.is_current:
            self._drop_file(destroy=False)
        if self._file is None:
            if time.monotonic() - self._failed_at < self._times.retry:
                raise StoreError(f"{_TROUBLE}: it could not be opened a moment ago")
            self._failed_at = time.monotonic()
            open_directory(self._layout)
            self._file = IndexFile(self._layout, self.bounds, self._times.busy)
            self._failed_at = -math.inf
        return self._file.connection

    def _drop_file(self, *, destroy: bool) -> None:
        file, self._file = self._file, None
        if file is not None and destroy:
            file.destroy()
        elif file is not None:
            file.close()

    def _close(self, touched: Mapping[Digest, float]) -> None:
        if not self._tidied.done():
            self._tidied.set_result(None)
        if self._file is not None:
            self._flush_quietly(touched)
        try:
            self._drop_file(destroy=False)
        except (sqlite3.Error, OSError) as error:
            _logger.warning("cannot close the index of the cache: %s", error)

    def _take_touched(self) -> dict[Digest, float]:
        touched, self._touched = self._touched, {}
        return touched

    def _flush_quietly(self, touched: Mapping[Digest, float]) -> None:
        try:
            with store_errors(_TROUBLE):
                self._retry_rebuilt(self._flush, touched)
        except StoreError as error:
            _logger.warning("cannot save when objects were last used: %s", error)
        except Exception:
            _logger.exception("a bug: cannot save when objects were last used")

    def _flush(self, touched: Mapping[Digest, float]) -> None:
        self._note(touched)

    def _totals(self) -> Totals:
        connection = self._opened()
        found: tuple[int, int] = connection.execute("SELECT bytes, objects FROM totals").fetchone()
        return Totals(*found, index=bytes_in_use(connection))

    def _note(self, used: Mapping[Digest, float]) -> None:
        """Write the times of use of these digests, and make their rows agree with the files."""
        now = time.time()
        self._write_used(used, now, min(now, *used.values()) - _BEFORE if used else now)

    def _write_used(self, used: Mapping[Digest, float], now: float, earliest: float) -> None:
        """Write times of use. Rows with a time in the future, from a wrong clock, get `earliest`.

        Otherwise they would be evicted last until the clock reaches their time.
        """
        with self._transaction() as connection:
            connection.execute(_CORRECT_CLOCK, (earliest, now))
            # The latest first: then the row of a manifest that many indexes name is written once.
            for digest, when in sorted(used.items(), key=lambda item: item[1], reverse=True):
                found = size_and_time(self._layout, digest)
                if found is None:
                    connection.execute("DELETE FROM objects WHERE digest = ?", (digest.text,))
                else:
                    connection.execute(_UPSERT, (digest.text, found[0], min(when, now)))
                    eviction_order.touch_related(connection, digest.text, min(when, now))

    def _compare(self, algorithm: str, prefix: str) -> None:
        """Make the rows of one blob directory agree with its files."""
        start = f"{algorithm}:{prefix}"
        rows = self._read("SELECT digest FROM objects WHERE digest >= ? AND digest < ?", (start, f"{start}g"))
        missing = set(self._layout.blobs_in(algorithm, prefix)) ^ set(self._digests([row[0] for row in rows]))
        if missing:
            found = {digest: size_and_time(self._layout, digest) for digest in missing}
            now = time.time()
            self._write_used({digest: at[1] if at is not None else 0.0 for digest, at in found.items()}, now, now)

    def _last_used(self, touched: Mapping[Digest, float], digests: Sequence[Digest]) -> dict[Digest, float]:
        self._flush(touched)
        query = "SELECT used FROM objects WHERE digest = ?"
        return {digest: row[0] for digest in digests for row in self._read(query, (digest.text,))}

    def _evictable(
        self, touched: Mapping[Digest, float], position: EvictionPosition, size: int
    ) -> tuple[list[Evictable], EvictionPosition]:
        self._flush(touched)
        found, following = eviction_order.evictable(self._opened(), position, size)
        rows = {digest: (length, image) for digest, length, image in found}
        return [Evictable(digest, *rows[digest.text]) for digest in self._digests(list(rows))], following

    def _add_manifest(self, manifest: Digest, links: Sequence[Link]) -> None:
        with self._transaction() as connection:
            eviction_order.add_contents(connection, manifest.text, links)
            forget_oldest_links(connection, self.bounds)

    def _digests(self, texts: Sequence[str]) -> Iterator[Digest]:
        """The digests of rows; removes rows without a valid digest, which are damage."""
        for text in texts:
            digest = digest_of(text)
            if digest is not None:
                yield digest
            else:
                self._change("DELETE FROM objects WHERE digest = ?", (text,))

    def _link(self, rows: Sequence[tuple[str, str, str]]) -> None:
        with self._transaction() as connection:
            connection.executemany(INSERT_LINK, rows)
            connection.execute(_DELETE_OLDEST_LINKS, (self.bounds.links,))
            forget_oldest_links(connection, self.bounds)

    def _change(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._transaction() as connection:
            connection.execute(statement, values)

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._opened().execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _next_step(self, steps: Iterator[None]) -> None:
        """Queue one step of the comparison, so that other work of the thread can run between two steps."""
        if not self._is_closed:
            self._thread.submit(self._step, steps)

    def _step(self, steps: Iterator[None]) -> None:
        if self._is_closed:  # closed after this step was queued: it would reopen the file, and nothing would close it
            return
        try:
            with store_errors("cannot compare the index of the cache with the files"):
                is_done = next(steps, _DONE) is _DONE
        except StoreError as error:
            _logger.warning("%s", error)
            is_done = True
        except Exception:
            _logger.exception("a bug: cannot compare the index of the cache with the files")
            is_done = True
        if not is_done:
            self._next_step(steps)
        elif not self._tidied.done():
            self._tidied.set_result(None)
