"""The store of one folder, opened: its files, its index, its tags, its bounds."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.config.model import Cache
from proxy.observe.metrics import CACHE_BYTES, CACHE_LIMIT_BYTES, CACHE_OBJECTS
from proxy.store.blobs import StoreError
from proxy.store.disk import translated
from proxy.store.eviction import Bounds, Evictor
from proxy.store.filesystem import FilesystemStore
from proxy.store.format import open_folder
from proxy.store.index import Index
from proxy.store.index_file import IndexBounds
from proxy.store.layout import Layout
from proxy.store.maintenance import sweep
from proxy.store.tags import Tags

_logger = logging.getLogger(__name__)
_open: list[Layout] = []  # two while a reload goes from one to another


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """Everything about one store."""

    layout: Layout
    index: Index
    blobs: FilesystemStore
    tags: Tags
    evictor: Evictor


@asynccontextmanager
async def opened_store(cache: Cache) -> AsyncIterator[OpenedStore]:
    """Open the store, sweep what interrupted writers left, and close it at the end.

    A folder that cannot be used is no reason not to start: then every pull passes through, and the log says why.
    """
    layout = Layout(Path(cache.path))
    index = Index(layout, IndexBounds.of(cache))
    try:
        replaced = await asyncio.to_thread(open_folder, layout)
        if replaced is not None and replaced.is_kept:
            _logger.warning(
                "the cache had an unknown format: it was moved to %s; delete it when you like", replaced.path
            )
        elif replaced is not None:
            _logger.warning("the cache had the format of an older version: it is emptied and fills again")
        with translated("cannot clean the cache"):
            swept = await asyncio.to_thread(sweep, layout)
        if swept:
            _logger.info("removed %d unfinished downloads of processes that have ended", swept)
        await index.open()
    except StoreError as error:
        _logger.error("nothing is cached: %s", error)  # noqa: TRY400 - an operator's matter, not a bug
    CACHE_LIMIT_BYTES.set(cache.max_size)
    _open.append(layout)
    blobs = FilesystemStore(layout, index)
    bounds = Bounds(cache.max_size, cache.reserve_free)
    try:
        yield OpenedStore(layout, index, blobs, Tags(layout, index), Evictor(layout, index, blobs, bounds, cache.keep))
    finally:
        _open.remove(layout)
        if not _open:
            _show_no_store()
        await index.close()


def _show_no_store() -> None:
    """A store that is gone from the configuration has no size."""
    for gauge in (CACHE_BYTES, CACHE_LIMIT_BYTES, CACHE_OBJECTS):
        gauge.set(0)
