"""`/status/images`: the cached images, collected on request and shared by requests that come soon after."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from proxy.rules.image_pattern import ImagePattern
from proxy.server.refusals import sanitize
from proxy.store.blobs import StoreError
from proxy.store.images import CachedImage, ImageList, cached_images
from proxy.store.opened import OpenedStore
from proxy.transport.singleflight import Background, SingleFlight

IMAGES_LIMIT = 200
"""Maximum number of images on the page."""
PATTERN_LIMIT = 512
LISTED_SECONDS = 10.0
"""How long a list is reused: reading the tags of a large cache takes seconds."""
WAIT_SECONDS = 20.0
"""Timeout for reading the cache."""
_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class CachedImages:
    """The list of one moment."""

    at: float
    pattern: str = ""
    images: tuple[CachedImage, ...] = ()
    total: int = 0
    """How many images match; more than are listed where there are many."""
    error: str = ""
    """Why there is no list."""

    def as_dict(self) -> dict[str, Any]:
        """The list as JSON-serializable data."""
        listed = [image.as_dict() for image in self.images]
        failure = {"error": self.error} if self.error else {}
        return {"at": self.at, "pattern": self.pattern, "total": self.total, "images": listed, **failure}


class ImageCollector:
    """Lists the cached images; concurrent requests for one pattern share one list."""

    def __init__(self, background: Background) -> None:
        self._flights: SingleFlight[tuple[int, str], CachedImages] = SingleFlight(background)
        self._background = background
        self._turn = asyncio.Lock()
        """Held while the cache is read: one list at a time, however many patterns are requested."""
        self._lists: TTLCache[tuple[int, str], CachedImages] = TTLCache(_REMEMBERED, LISTED_SECONDS)

    async def collect(self, store: OpenedStore | None, keep: Sequence[ImagePattern], text: str) -> CachedImages:
        """The images of a store that match a pattern, or all without one."""
        pattern, now = sanitize(text.strip(), PATTERN_LIMIT), time.time()
        if store is None:
            return CachedImages(now, pattern, error="No cache is configured.")
        try:
            patterns = (ImagePattern.parse(text.strip()),) if text.strip() else ()
        except ValueError as error:
            return CachedImages(now, pattern, error=sanitize(str(error)))
        key = (id(store), text.strip())
        known = self._lists.get(key)
        if known is None:
            known = await self._flights.run(key, lambda: self._list(store, keep, patterns, pattern))
            self._lists[key] = known
        return known

    async def _list(
        self, store: OpenedStore, keep: Sequence[ImagePattern], patterns: Sequence[ImagePattern], pattern: str
    ) -> CachedImages:
        now = time.time()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turn.acquire()
                listed = await asyncio.shield(self._read(store, keep, patterns))
        except StoreError as error:
            return CachedImages(now, pattern, error=sanitize(str(error)))
        except TimeoutError:
            return CachedImages(now, pattern, error=f"the cache did not respond within {WAIT_SECONDS:.0f} s")
        return CachedImages(now, pattern, listed.images, listed.total)

    def _read(
        self, store: OpenedStore, keep: Sequence[ImagePattern], patterns: Sequence[ImagePattern]
    ) -> asyncio.Task[ImageList]:
        """Read the list in a task, which ends the turn: its threads go on when nobody waits for it any longer."""
        listing = cached_images(store.layout, store.index, keep=keep, patterns=patterns, limit=IMAGES_LIMIT)
        task = self._background.start_awaited(listing)
        task.add_done_callback(self._end_turn)
        return task

    def _end_turn(self, task: asyncio.Task[ImageList]) -> None:
        self._turn.release()
        if not task.cancelled():
            task.exception()  # it is not reported where the timeout has passed
