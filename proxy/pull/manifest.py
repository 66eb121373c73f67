"""A manifest on its way to a client."""

import functools
from dataclasses import dataclass, field

from proxy.oci.descriptor import Descriptor
from proxy.pull.blob import CacheResult

ACCEPTS_REMEMBERED = 128
"""Accept headers whose meaning is remembered, each with one media type; requests have headers of a bounded size."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's descriptor, its bytes unless only the descriptor was asked for, and how it was come by.

    `age` is in seconds since the upstream last confirmed the tag; None where it was asked just now, or for a digest.
    """

    descriptor: Descriptor
    content: bytes | None = field(repr=False)
    way: CacheResult = CacheResult.BYPASS
    age: float | None = None


@functools.lru_cache(ACCEPTS_REMEMBERED)
def accepts(accept: str | None, media_type: str) -> bool:
    """Whether a client that sends this Accept header takes a media type; without a header it takes all."""
    if accept is None:
        return True
    offered = {item.split(";", 1)[0].strip().lower() for item in accept.split(",")}
    return bool(offered & {media_type, "*/*", "application/*"})
