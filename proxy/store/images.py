"""The cached images: names, size, platforms, last use, completeness, pins."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.oci.reference import Digest
from proxy.rules.image_pattern import ImagePattern
from proxy.store.disk import store_errors
from proxy.store.index import Index
from proxy.store.inventory import StoredImage, StoredTag, stored_image, stored_tags
from proxy.store.layout import Layout
from proxy.store.pins import pins

BATCH = 200
"""Images that are read from the store in one call to a thread."""


@dataclass(frozen=True, slots=True)
class CachedImage:
    """A stored image and whether it is pinned."""

    image: StoredImage
    pinned: bool

    @property
    def name(self) -> str:
        """The image as nodes request it."""
        return str(self.image.stored)

    @property
    def state(self) -> str:
        """Complete or incomplete, and pinned."""
        words = ("complete" if self.image.is_complete else "incomplete", "pinned" if self.pinned else "")
        return ", ".join(filter(None, words))

    @property
    def platforms(self) -> str:
        """The platforms of which content is stored."""
        platforms = self.image.platforms
        return ", ".join((*platforms.complete, *(f"{name} (incomplete)" for name in platforms.incomplete))) or "none"

    def as_dict(self) -> dict[str, Any]:
        """The image as JSON-serializable data."""
        image, stored = self.image, self.image.stored
        return {
            "image": self.name,
            "names": [f"{name}:{stored.tag}" for name in stored.names],
            "upstream": f"{stored.upstream_name}:{stored.tag}",
            "digest": stored.entry.descriptor.digest.text,
            "size": image.size,
            "platforms": list(image.platforms.complete),
            "incompletePlatforms": list(image.platforms.incomplete),
            "lastUsed": image.used,
            "confirmed": stored.entry.confirmed,
            "complete": image.is_complete,
            "pinned": self.pinned,
        }


@dataclass(frozen=True, slots=True)
class ImageList:
    """The cached images that were listed, the most recently used first, and how many match in all."""

    images: tuple[CachedImage, ...] = ()
    total: int = 0


async def cached_images(
    layout: Layout,
    index: Index,
    *,
    keep: Sequence[ImagePattern],
    patterns: Iterable[ImagePattern] = (),
    limit: int | None = None,
) -> ImageList:
    """The images that one of the patterns matches, or all without a pattern; at most `limit`. Raises StoreError."""
    wanted = tuple(patterns)
    with store_errors("cannot list the cached images"):
        pinning = (*keep, *await asyncio.to_thread(pins, layout))
        tags = await asyncio.to_thread(lambda: list(stored_tags(layout, wanted or None)))
        used = await index.last_used(list({tag.entry.descriptor.digest for tag in tags}))
        tags.sort(key=lambda tag: (-used.get(tag.entry.descriptor.digest, 0.0), str(tag)))
        images: list[CachedImage] = []
        for first in range(0, len(tags) if limit is None else min(limit, len(tags)), BATCH):
            batch = tags[first : first + BATCH]
            batch = batch if limit is None else batch[: limit - first]
            images += await asyncio.to_thread(_described, layout, batch, used, pinning)
    return ImageList(tuple(images), len(tags))


def _described(
    layout: Layout, tags: Sequence[StoredTag], used: Mapping[Digest, float], pinning: Sequence[ImagePattern]
) -> list[CachedImage]:
    digests = [tag.entry.descriptor.digest for tag in tags]
    images = [stored_image(layout, tag, used.get(digest)) for tag, digest in zip(tags, digests, strict=True)]
    return [CachedImage(image, image.stored.matches_any(pinning)) for image in images]
