"""Which blob of a manifest is the smallest; pure."""

import json
from collections.abc import Iterator
from typing import Any

from proxy.oci.descriptor import contents_of
from proxy.oci.reference import Digest

_LISTS = ("layers", "blobs")


def smallest_blob(manifest: bytes) -> tuple[Digest, int] | None:
    """Digest and size in bytes of the smallest blob that a manifest names and its registry holds; empty ones aside."""
    held = {str(digest): digest for digest in contents_of(manifest).blobs}
    if not held:
        return None
    sizes = ((held.get(name), size) for name, size in _sizes(manifest))
    found = [(digest, size) for digest, size in sizes if digest is not None]
    return min(found, key=lambda pair: pair[1], default=None)


def _sizes(manifest: bytes) -> Iterator[tuple[str, int]]:
    document = json.loads(manifest)  # contents_of has read it
    listed = [document.get("config")]
    for name in _LISTS:
        found = document.get(name)
        listed += found if isinstance(found, list) else []
    yield from (pair for item in listed if (pair := _sized(item)) is not None)


def _sized(item: Any) -> tuple[str, int] | None:
    if not isinstance(item, dict):
        return None
    digest, size = item.get("digest"), item.get("size")
    if not isinstance(digest, str) or not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        return None
    return digest, size
