"""Which endpoints have delivered stored content: bytes that were verified against their digest, and who sent them.

One small file beside each blob, with a line for each delivery: the origins that sent the bytes, several where a body
was resumed at another endpoint. Lines are appended whole, so processes need no lock, and the file goes with its blob.
Where clients have rights of their own, content counts only for routes that contain all origins of one delivery.
"""

import functools
import hashlib
import json
import os
from pathlib import Path

from cachetools import LRUCache

from proxy.config.address import Origin
from proxy.oci.reference import Digest
from proxy.store.blobs import Origins
from proxy.store.disk import LOOKUPS, translated
from proxy.store.files import FILE_MODE, make_folder, read_small
from proxy.store.layout import Layout

REMEMBERED = 200_000
"""Deliveries that are remembered without their file."""
FILE_LIMIT = 64 * 1024
"""Bytes of a file of deliveries; there are as many lines as sets of configured endpoints."""


class Provenance:
    """The deliveries of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: LRUCache[tuple[Digest, Origins], bool] = LRUCache(REMEMBERED)

    def knows(self, digest: Digest, origins: Origins) -> bool:
        """Whether some of these origins are known to have delivered the digest, without a look at its file."""
        return (digest, origins) in self._known

    async def covers(self, digest: Digest, origins: Origins) -> bool:
        """Whether the digest was delivered by some of these origins, and by no other one; raises StoreError."""
        if (digest, origins) in self._known:
            return True
        with translated("cannot read from the cache where content came from"):
            deliveries = await LOOKUPS.in_time(functools.partial(read_deliveries, self._layout.provenance(digest)))
        is_covered = any(delivery <= origins for delivery in deliveries)
        if is_covered:
            self._known[digest, origins] = True
        return is_covered

    async def record(self, digest: Digest, origins: Origins) -> None:
        """Note a delivery; raises StoreError."""
        if (digest, origins) not in self._known:
            with translated("cannot write to the cache where content came from"):
                await LOOKUPS.in_time(functools.partial(append_delivery, self._layout, digest, origins))
            self.remember(digest, origins)

    def remember(self, digest: Digest, origins: Origins) -> None:
        """A delivery has been noted in its file."""
        self._known[digest, origins] = True

    def forget(self) -> None:
        """Drop what is remembered of the files: somebody else has changed them."""
        self._known.clear()


def domain_name(domain: Origins | None) -> str:
    """What the names of a trust domain's part files end with; empty for the one that all share."""
    if domain is None:
        return ""
    return "-" + hashlib.sha256(json.dumps(sorted(map(str, domain))).encode()).hexdigest()[:16]


def read_deliveries(path: Path) -> list[Origins]:
    """The deliveries of a file; lines that cannot be read count for nothing. Raises OSError."""
    lines = (read_small(path, FILE_LIMIT) or b"").decode("utf-8", "replace").splitlines()
    return [delivery for line in lines if (delivery := _delivery(line))]


def append_delivery(layout: Layout, digest: Digest, origins: Origins) -> None:
    """Add a delivery to the file of a digest, unless it is there; raises OSError."""
    path = layout.provenance(digest)
    if origins in read_deliveries(path):
        return
    for directory in (path.parent.parent.parent, path.parent.parent, path.parent):
        make_folder(directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, FILE_MODE)
    try:
        # The line break before it ends a line that a crash has cut short.
        os.write(descriptor, b"\n" + json.dumps(sorted(map(str, origins))).encode() + b"\n")
    finally:
        os.close(descriptor)


def _delivery(line: str) -> Origins:
    try:
        return frozenset(Origin.parse(text) for text in json.loads(line))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return frozenset()
