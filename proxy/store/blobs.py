"""The BlobStore protocol: content by digest, growing while it arrives, whole and right once it is committed.

One conformance suite (`tests/contract`) holds for every implementation. A store that fails raises StoreError, and
whoever uses it goes on without it: a broken cache never fails a pull.
"""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

from proxy.config.address import Origin
from proxy.oci.reference import Digest

Origins = frozenset[Origin]
"""Endpoints whose deliveries count together: those of one route, or those that sent one body."""


class StoreError(Exception):
    """The store cannot do it: the disk is full or broken, or there are no file descriptors left.

    `reason` is a word for the metrics: enospc, eio, erofs, edquot, emfile, timeout (the disk does not answer), other.
    """

    def __init__(self, message: str, reason: str = "other") -> None:
        super().__init__(message)
        self.reason = reason


class Content(Protocol):
    """Bytes that can be read at any offset; a blob that is committed, or one that still grows."""

    @property
    def size(self) -> int:
        """Bytes that are there."""

    @property
    def descriptor(self) -> int | None:
        """A file descriptor to send from, where there is one; -1 once it is closed."""

    async def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; raises StoreError."""

    def close(self) -> None:
        """Let go of it; reading ends."""


class Ingest(Content, Protocol):
    """Content that arrives: appended to, read by followers meanwhile, then committed or dropped."""

    async def expect(self, total: int | None, origin: Origin) -> None:
        """Tell readers in other processes how many bytes will come, as far as anybody knows, and from where.

        Raises StoreError.
        """

    async def write(self, *pieces: bytes) -> None:
        """Append the pieces in order; raises StoreError."""

    async def commit(self, origins: Origins | None = None) -> None:
        """Make it findable under its digest, for good even if the power fails now, and note who delivered it.

        Raises StoreError.
        """

    async def abort(self) -> None:
        """Drop it. Whoever reads it goes on reading what is there."""


class Arrival(StrEnum):
    """What becomes of content that somebody else writes."""

    GROWING = "growing"
    COMMITTED = "committed"
    ABANDONED = "abandoned"


class Arriving(Content, Protocol):
    """Content that another process writes."""

    @property
    def total(self) -> int | None:
        """How many bytes it will have, once its writer knows; None while it does not, -1 where nobody ever will."""

    @property
    def origin(self) -> Origin | None:
        """The endpoint that sends it, once its writer knows."""

    async def poll(self) -> Arrival:
        """Look again at `size`, `total` and what became of it; raises StoreError."""


class BlobStore(Protocol):
    """Content by digest."""

    async def find(self, digest: Digest) -> Content | None:
        """The content of a digest, to be closed by whoever asked; None where there is none. Raises StoreError."""

    async def small(self, digest: Digest) -> bytes | None:
        """All bytes of a digest, if they are few (64 KiB); None where there are more, or none. Raises StoreError."""

    async def begin(self, digest: Digest, domain: Origins | None = None) -> Ingest | None:
        """Start to store a digest; None where somebody else does so now. Raises StoreError.

        Each trust domain (the origins whose deliveries count; None: all) has a writer of its own. What an interrupted
        writer of the same domain left behind may already be in it: `size` tells.
        """

    async def arriving(self, digest: Digest, domain: Origins | None = None) -> Arriving | None:
        """The content that another process writes now for the domain; None where there is none. Raises StoreError."""

    async def remove(self, digest: Digest, content: Content | None = None) -> bool:
        """Drop a digest, and tell whether it was there; readers in flight go on. Raises StoreError.

        With `content`, which `find` gave, only if that is what is stored now.
        """

    def list(self) -> AsyncIterator[tuple[Digest, int]]:
        """Every digest and its size in bytes."""
