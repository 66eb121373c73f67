"""What is stored, how big, when last used, and which repository holds it: SQLite, rebuilt from the files if need be.

One thread does all of it, so the event loop never waits for the disk. Several processes may have it open (WAL). A row
is written or removed by looking at the file inside the transaction, so whoever adds and removes at the same time, rows
and files agree.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from proxy.observe.metrics import CACHE_BYTES, CACHE_OBJECTS
from proxy.oci.reference import Digest
from proxy.store import eviction_order
from proxy.store.blobs import StoreError
from proxy.store.disk import TimedThreads, translated
from proxy.store.eviction_order import Position
from proxy.store.format import open_folder
from proxy.store.index_file import (
    INSERT_LINK,
    IndexBounds,
    IndexFile,
    bytes_in_use,
    forget_oldest_links,
    is_damage,
    size_and_time,
)
from proxy.store.layout import Layout, Link, digest_of
from proxy.store.maintenance import tidy

TOUCH_SECONDS = 10.0
"""How often the times of use are written, all at once."""
TOUCHED_LIMIT = 100_000
"""Times of use that wait to be written at the most."""
RETRY_SECONDS = 5.0
"""How long an index that could not be opened is left alone."""
LINKS_LIMIT = 1_000_000
"""Links that are kept; a forgotten one costs one HEAD."""

DEFAULT_BOUNDS = IndexBounds()
_UPSERT = """INSERT INTO objects (digest, size, used) VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET size = excluded.size, used = max(used, excluded.used)"""
_CORRECT_CLOCK = "UPDATE objects SET used = ? WHERE used > ?"
_BEFORE = 0.001
"""Seconds that what was used while the clock was ahead comes before what was used first after that."""
_DONE = object()
_TROUBLE = "the index of the cache cannot be used"

_Result = TypeVar("_Result")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Totals:
    """How much is stored, and bytes of the index itself."""

    bytes: int
    objects: int
    index: int = field(default=0, compare=False)


class Index:
    """The index of one store."""

    def __init__(self, layout: Layout, bounds: IndexBounds = DEFAULT_BOUNDS) -> None:
        self._layout = layout
        self.bounds = bounds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index")
        self._answers = TimedThreads(self._thread, late_limit=1)
        self._file: IndexFile | None = None
        self._failed_at = -RETRY_SECONDS
        self._is_closed = False
        self._touched: dict[Digest, float] = {}
        self._flushed_at = time.monotonic()
        self._tidied: Future[None] = Future()

    async def open(self) -> None:
        """Open it, and build it anew from the files where it is missing or cannot be read; raises StoreError.

        Then, behind all else, it is compared with the files: a crash may have left one that it does not know.
        """
        await self._run(self._opened)
        self._next_step(tidy(self._layout, self._compare, tags_expire=self.bounds.tags_expire))

    async def close(self) -> None:
        """Write what is pending and close it."""
        touched = self._take_touched()
        self._is_closed = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close, touched)
        finally:
            self._thread.shutdown(wait=False)

    async def tidied(self) -> None:
        """Wait until it has been compared with the files."""
        await asyncio.shield(asyncio.wrap_future(self._tidied))

    def touch(self, digest: Digest) -> None:
        """Note that a digest was used now; written later. A file that the index had missed comes into it so."""
        if len(self._touched) < TOUCHED_LIMIT or digest in self._touched:
            self._touched[digest] = time.time()
        if time.monotonic() - self._flushed_at > TOUCH_SECONDS and not self._is_closed:
            self._flushed_at = time.monotonic()
            self._thread.submit(self._flush_quietly, self._take_touched())

    async def add(self, digest: Digest) -> None:
        """Note that a digest is stored; raises StoreError."""
        await self._answer(self._note, {digest: time.time()})

    async def remove(self, digests: Iterable[Digest]) -> None:
        """Note that the files of these digests are gone; raises StoreError."""
        await self._run(self._note, dict.fromkeys(digests, time.time()))

    async def totals(self) -> Totals:
        """How much is stored; raises StoreError."""
        totals = await self._answer(self._totals)
        CACHE_BYTES.set(totals.bytes)
        CACHE_OBJECTS.set(totals.objects)
        return totals

    async def evictable(self, position: Position, size: int) -> tuple[Sequence[tuple[Digest, int]], Position]:
        """The next objects to evict from a store of at most `size` bytes, with their sizes, and where to go on.

        Raises StoreError.
        """
        return await self._run(self._evictable, self._take_touched(), position, size)

    async def link(self, repository: str, links: Iterable[Link]) -> None:
        """Note what a repository holds; raises StoreError."""
        await self._answer(self._link, [(repository, link.digest.text, link.kind) for link in links])

    async def add_manifest(self, manifest: Digest, links: Sequence[Link]) -> None:
        """Note that a stored digest is a manifest, and what it names: images are evicted as a whole.

        Raises StoreError.
        """
        await self._answer(self._add_manifest, manifest, links)

    async def is_linked(self, repository: str, link: Link) -> bool:
        """Whether a repository is known to hold a digest as what the link says; raises StoreError."""
        query = "SELECT 1 FROM links WHERE repository = ? AND digest = ? AND kind = ?"
        return bool(await self._answer(self._read, query, (repository, link.digest.text, link.kind)))

    async def _run(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        if self._is_closed:
            raise StoreError(f"{_TROUBLE}: it is closed")
        with translated(_TROUBLE):
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, partial(self._mended, work, *arguments)
            )

    async def _answer(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """As `_run`, for what a client waits for: raises StoreError as well where the answer does not come in time."""
        if self._is_closed:
            raise StoreError(f"{_TROUBLE}: it is closed")
        with translated(_TROUBLE):
            return await self._answers.in_time(partial(self._mended, work, *arguments))

    def _mended(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Do it, and once more with an index built anew if it turns out to be damaged."""
        try:
            return work(*arguments)
        except sqlite3.Error as error:
            if not is_damage(error) or self._file is None:
                raise
            _logger.warning("the index of the cache is damaged: %s", error)
            self._drop_file(destroy=True)
            return work(*arguments)

    def _opened(self) -> sqlite3.Connection:
        if self._file is not None and not self._file.is_current:
            self._drop_file(destroy=False)
        if self._file is None:
            if time.monotonic() - self._failed_at < RETRY_SECONDS:
                raise StoreError(f"{_TROUBLE}: it could not be opened a moment ago")
            self._failed_at = time.monotonic()
            open_folder(self._layout)
            self._file = IndexFile(self._layout, self.bounds)
            self._failed_at = -RETRY_SECONDS
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
            _logger.warning("the index of the cache was not closed well: %s", error)

    def _take_touched(self) -> dict[Digest, float]:
        touched, self._touched = self._touched, {}
        return touched

    def _flush_quietly(self, touched: Mapping[Digest, float]) -> None:
        try:
            with translated(_TROUBLE):
                self._mended(self._flush, touched)
        except StoreError as error:
            _logger.warning("times of use are not kept: %s", error)
        except Exception:
            _logger.exception("a bug: times of use are not kept")

    def _flush(self, touched: Mapping[Digest, float]) -> None:
        self._note(touched)

    def _totals(self) -> Totals:
        connection = self._opened()
        found: tuple[int, int] = connection.execute("SELECT bytes, objects FROM totals").fetchone()
        return Totals(*found, index=bytes_in_use(connection))

    def _note(self, used: Mapping[Digest, float]) -> None:
        """Make the rows of these digests, which were used at these times, agree with the files."""
        now = time.time()
        self._write_used(used, now, min(now, *used.values()) - _BEFORE if used else now)

    def _write_used(self, used: Mapping[Digest, float], now: float, earliest: float) -> None:
        """Write times of use. Those of rows that are still to come, by a clock that was ahead, become `earliest`.

        Without that they would be the last to be evicted until the clock has caught up with them.
        """
        with self._transaction() as connection:
            connection.execute(_CORRECT_CLOCK, (earliest, now))
            for digest, when in used.items():
                found = size_and_time(self._layout, digest)
                if found is None:
                    connection.execute("DELETE FROM objects WHERE digest = ?", (digest.text,))
                else:
                    connection.execute(_UPSERT, (digest.text, found[0], min(when, now)))
                    eviction_order.touch_related(connection, digest.text, min(when, now))

    def _compare(self, algorithm: str, prefix: str) -> None:
        """Make the rows of one folder agree with the files in it."""
        start = f"{algorithm}:{prefix}"
        rows = self._read("SELECT digest FROM objects WHERE digest >= ? AND digest < ?", (start, f"{start}g"))
        missing = set(self._layout.blobs_in(algorithm, prefix)) ^ set(self._digests([row[0] for row in rows]))
        if missing:
            found = {digest: size_and_time(self._layout, digest) for digest in missing}
            now = time.time()
            self._write_used({digest: at[1] if at is not None else 0.0 for digest, at in found.items()}, now, now)

    def _evictable(
        self, touched: Mapping[Digest, float], position: Position, size: int
    ) -> tuple[list[tuple[Digest, int]], Position]:
        self._flush(touched)
        found, following = eviction_order.evictable(self._opened(), position, size)
        sizes = dict(found)
        return [(digest, sizes[digest.text]) for digest in self._digests(list(sizes))], following

    def _add_manifest(self, manifest: Digest, links: Sequence[Link]) -> None:
        with self._transaction() as connection:
            eviction_order.add_contents(connection, manifest.text, links)
            forget_oldest_links(connection, self.bounds)

    def _digests(self, texts: Sequence[str]) -> Iterator[Digest]:
        """The digests of rows; a row of something else came by damage, and goes."""
        for text in texts:
            digest = digest_of(text)
            if digest is not None:
                yield digest
            else:
                self._change("DELETE FROM objects WHERE digest = ?", (text,))

    def _link(self, rows: Sequence[tuple[str, str, str]]) -> None:
        with self._transaction() as connection:
            connection.executemany(INSERT_LINK, rows)
            connection.execute("DELETE FROM links WHERE number <= (SELECT max(number) FROM links) - ?", (LINKS_LIMIT,))
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
        """One step of tidying, then others have their turn."""
        if not self._is_closed:
            self._thread.submit(self._step, steps)

    def _step(self, steps: Iterator[None]) -> None:
        if self._is_closed:  # while this step was submitted: it would open the file again, and nobody would close it
            return
        try:
            with translated("cannot compare the index with the files"):
                is_done = next(steps, _DONE) is _DONE
        except StoreError as error:
            _logger.warning("%s", error)
            is_done = True
        except Exception:
            _logger.exception("a bug: the index is not compared with the files")
            is_done = True
        if not is_done:
            self._next_step(steps)
        elif not self._tidied.done():
            self._tidied.set_result(None)
