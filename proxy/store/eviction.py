"""Keeps the store within its bounds: the image used longest ago is evicted first, and readers do not notice."""

import asyncio
import fcntl
import functools
import logging
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from proxy.observe.metrics import CACHE_EVICTIONS
from proxy.rules.image_pattern import ImagePattern
from proxy.store.disk import to_the_end, translated
from proxy.store.eviction_order import Position, Stage
from proxy.store.files import children, open_lock, regular_size, try_lock
from proxy.store.filesystem import FilesystemStore
from proxy.store.index import Index
from proxy.store.layout import Layout
from proxy.store.lease import told
from proxy.store.maintenance import sweep
from proxy.store.pins import PinnedScan
from proxy.store.shared_scan import SharedScan

LOW_WATER = 0.95
"""Share of the bound that eviction goes down to, so that it does not run for every blob."""
WAIT_SECONDS = 10.0
"""How long another process that evicts is waited for."""

_PAUSE = 0.05
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes: the most that is stored, and what of the disk is left free."""

    max_size: int
    reserve_free: int


class Obstacle(Enum):
    """Why the store is not within its bounds after an eviction."""

    OTHER_PROCESS = auto()
    """Another process evicts, and has not finished in time."""
    DISK = auto()
    """Less than `reserve_free` would be free even if nothing were stored."""
    DOWNLOADS = auto()
    """What is in flight, with the index, is larger than `max_size`."""
    PINNED = auto()
    """What is pinned is too large."""
    NEW_OBJECTS = auto()
    """Others store objects meanwhile, or some cannot be removed."""


@dataclass(frozen=True, slots=True)
class _Excess:
    """Bytes beyond each bound; negative where there is room."""

    of_size: int
    of_disk: int

    @property
    def bytes(self) -> int:
        """Bytes that have to go for both bounds."""
        return max(self.of_size, self.of_disk)


@dataclass(frozen=True, slots=True)
class _InFlight:
    """Bytes of all downloads in flight, of all processes: when they are complete, and what is there."""

    expected: int
    written: int


class Evictor:
    """Evicts; one process at a time, and one task of it."""

    def __init__(
        self,
        layout: Layout,
        index: Index,
        store: FilesystemStore,
        bounds: Bounds,
        keep: Sequence[ImagePattern] = (),
    ) -> None:
        self._layout = layout
        self._index = index
        self._store = store
        self._bounds = bounds
        self._turn = asyncio.Lock()
        self._pinned = PinnedScan(layout, keep)
        self._room = SharedScan(functools.partial(_room, layout))

    async def make_room(self, size: int = 0) -> bool:
        """Evict until `size` further bytes fit beside all that is in flight; whether they do. Raises StoreError."""
        return await self._fit(size) is None

    async def prune(self, target: int | None = None) -> Obstacle | None:
        """Evict until the store is within its bounds, or holds at most `target` bytes, however full the disk is.

        Gives the reason where it does not get there. Raises StoreError.
        """
        return await self._fit(0) if target is None else await self._shrink(target)

    async def _fit(self, size: int) -> Obstacle | None:
        if (await self._excess(size)).bytes <= 0:
            return None
        async with self._exclusively() as alone:
            if alone:
                return await self._make_room(size)
            return None if (await self._excess(size)).bytes <= 0 else Obstacle.OTHER_PROCESS

    async def _shrink(self, target: int) -> Obstacle | None:
        async with self._exclusively() as alone:
            surplus = (await self._index.totals()).bytes - target
            while alone and surplus > 0 and await self._evict(surplus):
                surplus = (await self._index.totals()).bytes - target
            if surplus <= 0:
                return None
            if alone and (await self._pinned.result()).size > target:
                return Obstacle.PINNED
            return Obstacle.NEW_OBJECTS if alone else Obstacle.OTHER_PROCESS

    @asynccontextmanager
    async def _exclusively(self) -> AsyncIterator[bool]:
        """The right to evict; False where another process has it for long. Raises StoreError."""
        async with self._turn:
            lock = await self._lock()
            try:
                yield lock is not None
            finally:
                if lock is not None:
                    os.close(lock)

    async def _make_room(self, size: int) -> Obstacle | None:
        with translated("cannot clean the cache"):
            await to_the_end(functools.partial(sweep, self._layout))
        excess = await self._excess(size)
        totals = await self._index.totals()
        if excess.bytes > totals.bytes:  # all that is stored would go in vain
            return Obstacle.DISK if excess.of_disk >= excess.of_size else Obstacle.DOWNLOADS
        if excess.bytes > totals.bytes - (await self._pinned.result()).size:
            return Obstacle.PINNED
        spare = int(max(self._bounds.max_size - totals.index, 0) * (1 - LOW_WATER))
        while excess.bytes > 0 and await self._evict(excess.bytes + spare):
            excess = await self._excess(size)
        return None if excess.bytes <= 0 else Obstacle.NEW_OBJECTS

    async def _excess(self, size: int) -> _Excess:
        """Bytes that are too many, for either bound."""
        totals = await self._index.totals()
        with translated("cannot see how full the disk is"):
            free, flight = await self._room.result()
        return _Excess(
            of_size=totals.bytes + totals.index + flight.expected + size - self._bounds.max_size,
            of_disk=flight.expected - flight.written + size + self._bounds.reserve_free - free,
        )

    async def _evict(self, wanted: int) -> int:
        """Remove objects of `wanted` bytes, as far as there are so many; the number of objects."""
        removed, position, pinned = 0, Position(), (await self._pinned.result()).digests
        while wanted > 0 and position.stage is not Stage.END:
            objects, position = await self._index.evictable(position, self._bounds.max_size)
            for digest, size in objects:
                if wanted <= 0:
                    break
                if digest in pinned:
                    continue
                wanted -= size
                if await self._store.remove(digest):
                    removed += 1
                    CACHE_EVICTIONS.labels("size").inc()
                    _logger.debug("evicted %s, %d bytes", digest, size)
        return removed

    async def _lock(self) -> int | None:
        """The right to evict, to be closed; None where another process has it for long. Raises StoreError."""
        with translated("cannot lock the cache"):
            descriptor = await to_the_end(functools.partial(open_lock, self._layout.root / "evict.lock"), os.close)
        locked = False
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not (locked := try_lock(descriptor, fcntl.LOCK_EX)):  # noqa: ASYNC110 - no process tells us
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            return None
        finally:
            if not locked:
                os.close(descriptor)
        return descriptor


def _room(layout: Layout) -> tuple[int, _InFlight]:
    """Bytes of the disk that are free, and what is in flight; raises OSError."""
    expected = written = 0
    for entry in children(layout.ingest):
        if entry.name.endswith(".lock"):
            path = Path(entry.path)
            size = regular_size(path.with_suffix(".part")) or 0
            expected += max(told(path) or 0, size)
            written += size
    return shutil.disk_usage(layout.root).free, _InFlight(expected, written)
