"""An open store: the files, index, tags and bounds of one directory."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.config.cache import Cache
from proxy.observe.metrics import CACHE_BYTES, CACHE_LIMIT_BYTES, CACHE_OBJECTS
from proxy.oci.reference import Digest
from proxy.store.blobs import Origins, StoreError
from proxy.store.disk import store_errors
from proxy.store.eviction import Bounds, Evictor
from proxy.store.filesystem import FilesystemStore
from proxy.store.format import open_directory
from proxy.store.index import DEFAULT_TIMES, Index
from proxy.store.index_file import IndexBounds, IndexTimes
from proxy.store.layout import Layout
from proxy.store.maintenance import sweep
from proxy.store.tags import Tags, read_tag

_logger = logging.getLogger(__name__)
_open: list[Layout] = []  # two while a reload changes the directory


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """The parts of one open store."""

    layout: Layout
    index: Index
    blobs: FilesystemStore
    tags: Tags
    evictor: Evictor

    async def stored_size(self, digest: Digest, domain: Origins | None = None) -> int | None:
        """Bytes of a digest that is stored and counts for a domain (None: all); None for any other.

        Raises StoreError.
        """
        if domain is not None and not await self.blobs.provenance.covers(digest, domain):
            return None
        content = await self.blobs.find(digest)
        if content is None:
            return None
        content.close()
        return content.size


@asynccontextmanager
async def opened_store(cache: Cache, times: IndexTimes = DEFAULT_TIMES) -> AsyncIterator[OpenedStore]:
    """Open the store, remove orphaned downloads, and close the store at the end.

    An unusable directory does not prevent the start: every pull then passes through, and the log says why.
    """
    layout = Layout(Path(cache.path))
    index = Index(layout, IndexBounds.of(cache), times)
    try:
        replaced = await asyncio.to_thread(open_directory, layout)
        if replaced is not None and replaced.is_kept:
            _logger.warning(
                "the cache has an unknown format: moved it to %s, which you can delete, and started an empty cache",
                replaced.path,
            )
        elif replaced is not None:
            _logger.warning("the cache has the format of an older version: emptied it")
        with store_errors("cannot clean the cache"):
            swept = await asyncio.to_thread(sweep, layout)
        if swept:
            _logger.info("removed %d unfinished downloads of ended processes", swept)
        await index.open()
    except StoreError as error:
        _logger.error("nothing is cached: %s", error)  # noqa: TRY400 - an operator's matter, not a bug
    CACHE_LIMIT_BYTES.set(cache.max_size)
    _open.append(layout)
    blobs = FilesystemStore(layout, index)
    bounds = Bounds(cache.max_size, cache.reserve_free)
    try:
        # A tag that never expires is served also while the clock is wrong, as on machines without a network.
        tags = Tags(layout, index, functools.partial(read_tag, is_timed=not cache.offline))
        yield OpenedStore(layout, index, blobs, tags, Evictor(layout, index, blobs, bounds, cache.keep))
    finally:
        _open.remove(layout)
        if not _open:
            _clear_gauges()
        await index.close()


def _clear_gauges() -> None:
    """Set the gauges to 0: the configuration has no store any more."""
    for gauge in (CACHE_BYTES, CACHE_LIMIT_BYTES, CACHE_OBJECTS):
        gauge.set(0)
