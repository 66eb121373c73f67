"""Provenance: which endpoints delivered stored content, whose bytes were verified against its digest.

One small file per blob, with one line per delivery: the origins that sent the bytes, several if a body was resumed at
another endpoint. Each line is one append, so processes need no lock. The file is removed with its blob. For clients
with rights of their own, a route may use content only if it has all origins of one delivery.
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
from proxy.store.disk import LOOKUPS, store_errors
from proxy.store.files import FILE_MODE, make_directory, read_small
from proxy.store.layout import Layout

REMEMBERED = 200_000
"""Maximum number of deliveries cached in memory."""
FILE_LIMIT = 64 * 1024
"""Maximum bytes of a file of deliveries; it has at most one line per set of configured endpoints."""


class Provenance:
    """The deliveries of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: LRUCache[tuple[Digest, Origins], bool] = LRUCache(REMEMBERED)

    def knows(self, digest: Digest, origins: Origins) -> bool:
        """Whether memory has a delivery of the digest by some of these origins; does not read the file."""
        return (digest, origins) in self._known

    async def covers(self, digest: Digest, origins: Origins) -> bool:
        """Whether some delivery of the digest came from these origins only; raises StoreError."""
        if (digest, origins) in self._known:
            return True
        with store_errors("cannot read from the cache which endpoints delivered a blob"):
            deliveries = await LOOKUPS.in_time(functools.partial(read_deliveries, self._layout.provenance(digest)))
        is_covered = any(delivery <= origins for delivery in deliveries)
        if is_covered:
            self._known[digest, origins] = True
        return is_covered

    async def record(self, digest: Digest, origins: Origins) -> None:
        """Record a delivery; raises StoreError."""
        if (digest, origins) not in self._known:
            with store_errors("cannot write to the cache which endpoints delivered a blob"):
                await LOOKUPS.in_time(functools.partial(append_delivery, self._layout, digest, origins))
            self.remember(digest, origins)

    def remember(self, digest: Digest, origins: Origins) -> None:
        """Cache a delivery that the file already has."""
        self._known[digest, origins] = True

    def forget(self) -> None:
        """Drop the cached deliveries: another process has changed the files."""
        self._known.clear()


def domain_name(domain: Origins | None) -> str:
    """The suffix of the names of a trust domain's part files; empty for None, the domain of all origins."""
    if domain is None:
        return ""
    return "-" + hashlib.sha256(json.dumps(sorted(map(str, domain))).encode()).hexdigest()[:16]


def read_deliveries(path: Path) -> list[Origins]:
    """The deliveries of a file; skips invalid lines. Raises OSError."""
    lines = (read_small(path, FILE_LIMIT) or b"").decode("utf-8", "replace").splitlines()
    return [delivery for line in lines if (delivery := _delivery(line))]


def append_delivery(layout: Layout, digest: Digest, origins: Origins) -> None:
    """Append a delivery to the file of a digest, unless the file has it; raises OSError."""
    path = layout.provenance(digest)
    if origins in read_deliveries(path):
        return
    for directory in (path.parent.parent.parent, path.parent.parent, path.parent):
        make_directory(directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, FILE_MODE)
    try:
        # The leading line break ends a line that a crash has truncated.
        os.write(descriptor, b"\n" + json.dumps(sorted(map(str, origins))).encode() + b"\n")
    finally:
        os.close(descriptor)


def _delivery(line: str) -> Origins:
    try:
        return frozenset(Origin.parse(text) for text in json.loads(line))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return frozenset()
