"""Eviction: keeps the store within its bounds, by image, least recently used first; open readers are not affected."""

import asyncio
import fcntl
import functools
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from proxy.observe.metrics import CACHE_EVICTIONS
from proxy.rules.image_pattern import ImagePattern
from proxy.store.disk import store_errors, to_the_end
from proxy.store.eviction_order import EvictionPosition, EvictionStage
from proxy.store.files import children, open_lock, regular_size, try_lock
from proxy.store.filesystem import FilesystemStore
from proxy.store.index import Index
from proxy.store.layout import Layout
from proxy.store.lease import reported_size
from proxy.store.maintenance import sweep
from proxy.store.pins import PinnedContent, PinnedScan
from proxy.store.shared_scan import SharedScan

LOW_WATER = 0.95
"""Share of the bound that eviction goes down to, so that it does not run for every blob."""
WAIT_SECONDS = 10.0
"""How long to wait for another process that evicts."""

_PAUSE = 0.05
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits in bytes: the maximum size of the store, and the disk space to leave free."""

    max_size: int
    reserve_free: int


class Obstacle(Enum):
    """Why the store still exceeds its bounds after an eviction."""

    OTHER_PROCESS = auto()
    """Another process evicts and did not finish in time."""
    DISK = auto()
    """Less than `reserve_free` would be free even with an empty store."""
    DOWNLOADS = auto()
    """The downloads in flight and the index together exceed `max_size`."""
    PINNED = auto()
    """The pinned images are too large."""
    NEW_OBJECTS = auto()
    """Other writers stored objects meanwhile, or some objects cannot be removed."""


@dataclass(frozen=True, slots=True)
class _Excess:
    """Bytes above each bound; negative while there is room."""

    of_size: int
    of_disk: int

    @property
    def bytes(self) -> int:
        """Bytes to evict to satisfy both bounds."""
        return max(self.of_size, self.of_disk)


@dataclass(frozen=True, slots=True)
class _InFlight:
    """Bytes of all downloads in flight, of all processes: their expected total, and the bytes written so far."""

    expected: int
    written: int


class Evictor:
    """Evicts; one task of one process at a time."""

    def __init__(
        self,
        layout: Layout,
        index: Index,
        store: FilesystemStore,
        bounds: Bounds,
        keep: Sequence[ImagePattern] = (),
        *,
        low_water: float = LOW_WATER,
        wait_seconds: float = WAIT_SECONDS,
        free: Callable[[Path], int] | None = None,
    ) -> None:
        self._layout = layout
        self._index = index
        self._store = store
        self._bounds = bounds
        self._low_water = low_water
        self._wait_seconds = wait_seconds
        self._turn = asyncio.Lock()
        self._room = SharedScan(functools.partial(_room, layout, free or _free))
        self._pinned = PinnedScan(layout, keep)

    async def pinned(self) -> PinnedContent:
        """What is stored of the pinned images, as of the last seconds; raises StoreError."""
        return await self._pinned.result()

    async def make_room(self, size: int = 0) -> bool:
        """Evict until `size` more bytes fit beside the downloads in flight, and return whether they do.

        Raises StoreError.
        """
        return await self.fit(size) is None

    async def prune(self, target: int | None = None) -> Obstacle | None:
        """Evict until the store is within its bounds; with `target`, until it holds at most that many bytes.

        With `target` the free disk space is ignored. Returns why it did not succeed, or None. Raises StoreError.
        """
        return await self.fit(0) if target is None else await self._shrink(target)

    async def fit(self, size: int) -> Obstacle | None:
        """As `make_room`; returns why the bytes do not fit, or None."""
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
        """Hold the eviction lock in the block; False if another process keeps it too long. Raises StoreError."""
        async with self._turn:
            lock = await self._lock()
            try:
                yield lock is not None
            finally:
                if lock is not None:
                    os.close(lock)

    async def _make_room(self, size: int) -> Obstacle | None:
        with store_errors("cannot clean the cache"):
            await to_the_end(functools.partial(sweep, self._layout))
        excess = await self._excess(size)
        totals = await self._index.totals()
        if excess.bytes > totals.bytes:  # evicting everything would not be enough
            return Obstacle.DISK if excess.of_disk >= excess.of_size else Obstacle.DOWNLOADS
        if excess.bytes > totals.bytes - (await self._pinned.result()).size:
            return Obstacle.PINNED
        spare = int(max(self._bounds.max_size - totals.index, 0) * (1 - self._low_water))
        while excess.bytes > 0 and await self._evict(excess.bytes, spare):
            excess = await self._excess(size)
        return None if excess.bytes <= 0 else Obstacle.NEW_OBJECTS

    async def _excess(self, size: int) -> _Excess:
        """Bytes above each bound."""
        totals = await self._index.totals()
        with store_errors("cannot read the free space of the disk"):
            free, flight = await self._room.result()
        return _Excess(
            of_size=totals.bytes + totals.index + flight.expected + size - self._bounds.max_size,
            of_disk=flight.expected - flight.written + size + self._bounds.reserve_free - free,
        )

    async def _evict(self, wanted: int, spare: int = 0) -> int:
        """Remove objects of `wanted` bytes, or all there are; returns the number of objects.

        Up to `spare` further bytes are removed, but no further image becomes incomplete for them.
        """
        removed, position, image = 0, EvictionPosition(), None
        pinned = (await self._pinned.result()).sizes
        while wanted + spare > 0 and position.stage is not EvictionStage.END:
            objects, position = await self._index.evictable(position, self._bounds.max_size)
            for item in objects:
                if wanted + spare <= 0 or (wanted <= 0 and item.image not in (None, image)):
                    return removed
                if item.digest in pinned:
                    continue
                wanted, image = wanted - item.size, item.image
                if await self._store.remove(item.digest):
                    removed += 1
                    CACHE_EVICTIONS.labels("size").inc()
                    _logger.debug("evicted %s, %d bytes", item.digest, item.size)
        return removed

    async def _lock(self) -> int | None:
        """The locked descriptor, which the caller closes; None if another process keeps it. Raises StoreError."""
        with store_errors("cannot lock the cache"):
            descriptor = await to_the_end(functools.partial(open_lock, self._layout.root / "evict.lock"), os.close)
        locked = False
        try:
            async with asyncio.timeout(self._wait_seconds):
                while not (locked := try_lock(descriptor, fcntl.LOCK_EX)):  # noqa: ASYNC110 - a lock sends no event
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            return None
        finally:
            if not locked:
                os.close(descriptor)
        return descriptor


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _room(layout: Layout, free: Callable[[Path], int]) -> tuple[int, _InFlight]:
    """Free bytes of the disk, and the downloads in flight; raises OSError."""
    expected = written = 0
    for entry in children(layout.ingest):
        if entry.name.endswith(".lock"):
            path = Path(entry.path)
            size = regular_size(path.with_suffix(".part")) or 0
            expected += max(reported_size(path) or 0, size)
            written += size
    return free(layout.root), _InFlight(expected, written)
