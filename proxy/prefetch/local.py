"""Images fetched into the cache of this machine, and whether they are complete there in the end."""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proxy.config.base import readable_size
from proxy.config.cache import Cache
from proxy.oci.reference import Digest, ImageReference, Tag
from proxy.prefetch.images import PlannedImage, Prefetcher, Progressed
from proxy.store.disk import store_errors
from proxy.store.eviction import LOW_WATER
from proxy.store.layout import Link, LinkKind
from proxy.store.opened import OpenedStore
from proxy.store.pins import PIN_ADVICE


class ImageTooLarge(Exception):
    """An image alone is larger than the cache."""


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """An image after its fetch, with sizes in bytes."""

    plan: PlannedImage
    progress: Progressed
    was_complete: bool
    """Whether the cache had all of it at the end of its fetch."""


class LocalPrefetch:
    """Fetches images into an opened store."""

    def __init__(self, prefetcher: Prefetcher, store: OpenedStore, cache: Cache) -> None:
        self._prefetcher = prefetcher
        self._store = store
        self._cache = cache

    async def fetch(
        self, image: ImageReference, platforms: frozenset[str], advance: Callable[[Progressed], None]
    ) -> FetchedImage:
        """Fetch one image; nothing but its manifests where it is larger than the cache.

        Raises ImageTooLarge, RegistryError, BodyBroken and StoreError.
        """
        plan = await self._prefetcher.plan(image, platforms)
        if plan.size > self._cache.max_size:
            raise ImageTooLarge(self._too_large(plan))
        step = Progressed(0, 0, 0)
        async for step in self._prefetcher.fetch(plan):
            advance(step)
        return FetchedImage(plan, step, await self._missing(plan) is None)

    async def problems(self, images: Sequence[FetchedImage]) -> list[str | None]:
        """Why each image is not complete in the cache, after all fetches; None for each that is. Raises StoreError."""
        objects: dict[Digest, int] = {}
        for image in images:
            objects |= image.plan.objects
        return [await self._problem(image, objects) for image in images]

    async def _problem(self, image: FetchedImage, objects: Mapping[Digest, int]) -> str | None:
        """Why an image is not complete; `objects` are those of all images."""
        missing = await self._missing(image.plan)
        if missing is None:
            return None
        together = sum(objects.values())
        room = self._cache.max_size - (await self._store.index.totals()).index
        if image.plan.size > room:
            return self._too_large(image.plan)
        pinned = await self._other_pinned(objects)
        if together <= room < together + pinned:
            return (
                f"does not fit beside the pinned images: they take {readable_size(pinned)}, {self._limit}. {PIN_ADVICE}"
            )
        if together > room * LOW_WATER:
            need = f"the images together need {readable_size(together)}, {self._limit}"
            if together <= room:
                need += f", of which an eviction leaves {1 - LOW_WATER:.0%} free"
            return f"was evicted by a later image: {need}" if image.was_complete else f"does not fit: {need}"
        reserve = self._cache.reserve_free
        if await self._free() < reserve:
            cause = f"less than reserveFree ({readable_size(reserve)}) of the disk is free; free space on the disk"
        else:
            cause = "the cache could not be written, or other pulls evicted it; run prefetch again"
        return f"is not complete in the cache: {missing} is missing; {cause}"

    async def _other_pinned(self, objects: Mapping[Digest, int]) -> int:
        """Bytes that are stored of pinned images, without those of `objects`; raises StoreError."""
        sizes = (await self._store.evictor.pinned()).sizes
        return sum(size for digest, size in sizes.items() if digest not in objects)

    @property
    def _limit(self) -> str:
        return f"maxSize is {readable_size(self._cache.max_size)}"

    def _too_large(self, plan: PlannedImage) -> str:
        return f"does not fit: {readable_size(plan.size)}, {self._limit}"

    async def _free(self) -> int:
        with store_errors("cannot see how full the disk is"):
            return (await asyncio.to_thread(shutil.disk_usage, self._store.layout.root)).free

    async def _missing(self, plan: PlannedImage) -> str | None:
        """The first thing that a pull without the registry would lack; raises StoreError."""
        key, tags = plan.route.key, self._store.tags
        if isinstance(plan.reference, Tag):
            entry = await tags.find(key, plan.reference, anew=True)
            if entry is None or entry.descriptor.digest != plan.top:
                return f"tag {plan.reference}"
        for digest in plan.manifests:
            is_linked = await tags.is_linked(key, Link(digest, LinkKind.MANIFEST))
            if not is_linked or await self._store.stored_size(digest, plan.route.domain) is None:
                return f"manifest {digest}"
        for digest in plan.blobs:
            if await self._store.stored_size(digest, plan.route.domain) is None:
                return f"blob {digest}"
        return None
