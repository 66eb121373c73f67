"""Pinned images: those that `cache.keep` names, and those that `scope-proxy cache pin` has noted in the store.

Blocking, except for `PinnedScan`.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.config.base import readable_size
from proxy.oci.reference import Digest
from proxy.rules.image_pattern import ImagePattern
from proxy.store.disk import store_errors, to_the_end
from proxy.store.files import children, make_directory, read_field, regular_size, replace
from proxy.store.inventory import content_of, stored_manifests, stored_tags
from proxy.store.layout import Layout

SCAN_SECONDS = 10.0
"""How long the result of a scan of the tags is used."""
FULL_SHARE = 0.9
"""Share of the cache from which on pinned images leave too little room."""
PIN_ADVICE = "Raise cache.maxSize, or remove patterns from cache.keep and pins with scope-proxy cache unpin."
"""What to do where pinned images fill the cache."""
PINS_LIMIT = 10_000
_PIN_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class PinnedContent:
    """What the stored manifests of pinned images name, with the bytes that are stored of each digest."""

    sizes: Mapping[Digest, int]

    @property
    def size(self) -> int:
        """Bytes that are stored of all."""
        return sum(self.sizes.values())


def pin(layout: Layout, pattern: ImagePattern) -> bool:
    """Note a pin in the store; False where it has been noted before. Raises OSError, and ValueError for too many."""
    path = _pin_file(layout, pattern)
    if path.exists():
        return False
    make_directory(path.parent)
    if len(children(path.parent)) >= PINS_LIMIT:
        raise ValueError(f"there are {PINS_LIMIT} pins already: pin a pattern of images instead")
    replace(path, json.dumps({"image": str(pattern)}).encode(), durable=True)
    return True


def unpin(layout: Layout, pattern: ImagePattern) -> bool:
    """Remove a pin; whether there was one. Raises OSError."""
    try:
        _pin_file(layout, pattern).unlink()
    except FileNotFoundError:
        return False
    return True


def pins(layout: Layout) -> tuple[ImagePattern, ...]:
    """The pins that are noted in the store; what cannot be read is passed over. Raises OSError."""
    patterns = []
    for entry in children(layout.pins):
        if entry.name.startswith("."):  # temporary: a crash may have left it, and nothing would remove the pin
            continue
        with contextlib.suppress(ValueError):
            patterns.append(ImagePattern.parse(read_field(Path(entry.path), "image", _PIN_LIMIT) or ""))
    return tuple(patterns)


def pinned_content(layout: Layout, keep: Sequence[ImagePattern]) -> PinnedContent:
    """What is stored of the images that are pinned in the store or named by `keep`; raises OSError."""
    patterns = (*keep, *pins(layout))
    if not patterns:
        return PinnedContent({})
    tagged = {tag.entry.descriptor.digest for tag in stored_tags(layout, patterns)}
    manifests = tagged.union(_pinned_by_digest(layout, patterns))
    digests = {digest for manifest in manifests for digest in content_of(layout, manifest)}
    return PinnedContent({digest: regular_size(layout.blob(digest)) or 0 for digest in digests})


def _pinned_by_digest(layout: Layout, patterns: Sequence[ImagePattern]) -> Iterator[Digest]:
    """The manifests that patterns with a digest name; an image that was pulled by its digest has no tag."""
    with_digest = [pattern for pattern in patterns if pattern.digest is not None]
    digests = frozenset(pattern.digest for pattern in with_digest if pattern.digest is not None)
    for names, digest in stored_manifests(layout, digests) if digests else ():
        if any(pattern.matches(name, None, digest) for pattern in with_digest for name in names):
            yield digest


def pin_problem(pinned: PinnedContent, max_size: int) -> str | None:
    """Why pinned images do not fit into a cache of `max_size` bytes; None where they fit."""
    if pinned.size > max_size * FULL_SHARE:
        used = f"{readable_size(pinned.size)} of {readable_size(max_size)}"
        return f"pinned images fill the cache ({used}): other images, or the rest of the pinned ones, are not stored"
    return None


class PinnedScan:
    """What is pinned, by a scan of the store that is repeated when its result is older than `seconds`."""

    def __init__(self, layout: Layout, keep: Sequence[ImagePattern], *, seconds: float = SCAN_SECONDS) -> None:
        self._layout = layout
        self._keep = tuple(keep)
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._result: tuple[float, PinnedContent] | None = None

    async def result(self) -> PinnedContent:
        """What is pinned; raises StoreError."""
        async with self._turn:
            if self._result is None or time.monotonic() - self._result[0] > self._seconds:
                with store_errors("cannot read which images are pinned"):
                    pinned = await to_the_end(functools.partial(pinned_content, self._layout, self._keep))
                self._result = time.monotonic(), pinned
            return self._result[1]


def _pin_file(layout: Layout, pattern: ImagePattern) -> Path:
    return layout.pins / hashlib.sha256(str(pattern).encode()).hexdigest()
