"""The BlobStore protocol: content by digest, readable while it is written, complete and verified once committed.

One conformance suite (`tests/contract`) covers every implementation. A store that fails raises StoreError, and the
caller continues without it: a broken cache never fails a pull.
"""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

from proxy.config.address import Origin
from proxy.oci.reference import Digest

Origins = frozenset[Origin]
"""A set of endpoints: those of one route, or those that sent one body."""


class StoreError(Exception):
    """The store failed: the disk is full or broken, or no file descriptor is left.

    `reason` is the metric label: enospc, eio, erofs, edquot, emfile, timeout (the disk does not respond), other.
    """

    def __init__(self, message: str, reason: str = "other") -> None:
        super().__init__(message)
        self.reason = reason


class Content(Protocol):
    """Bytes that can be read at any offset: a committed blob, or one that is still being written."""

    @property
    def size(self) -> int:
        """Bytes that can be read."""

    @property
    def descriptor(self) -> int | None:
        """A file descriptor to send from; None if the store has none, -1 once it is closed."""

    async def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; raises StoreError."""

    def close(self) -> None:
        """Release it; it cannot be read afterwards."""


class Ingest(Content, Protocol):
    """Content that is being written: appended to, read by followers meanwhile, then committed or aborted."""

    async def expect(self, total: int | None, origin: Origin) -> None:
        """Report the total size (None: unknown) and the sending endpoint to readers in other processes.

        Raises StoreError.
        """

    async def write(self, *pieces: bytes) -> None:
        """Append the pieces in order; raises StoreError."""

    async def commit(self, origins: Origins | None = None) -> None:
        """Store it durably under its digest, and record the endpoints that delivered it.

        Raises StoreError.
        """

    async def abort(self) -> None:
        """Drop it. Open readers can still read the bytes written so far."""


class Arrival(StrEnum):
    """The state of content that another process writes."""

    GROWING = "growing"
    COMMITTED = "committed"
    ABANDONED = "abandoned"


class Arriving(Content, Protocol):
    """Content that another process writes."""

    @property
    def total(self) -> int | None:
        """Its total size in bytes; None until its writer reports it, -1 if the writer does not know it."""

    @property
    def origin(self) -> Origin | None:
        """The endpoint that sends it; None until its writer reports it."""

    async def poll(self) -> Arrival:
        """Update `size` and `total`, and return the state; raises StoreError."""


class BlobStore(Protocol):
    """Content by digest."""

    async def find(self, digest: Digest) -> Content | None:
        """The content of a digest, which the caller closes; None if it is not stored. Raises StoreError."""

    async def small(self, digest: Digest) -> bytes | None:
        """All bytes of a digest of at most 64 KiB; None if it is larger or not stored. Raises StoreError."""

    async def begin(self, digest: Digest, domain: Origins | None = None) -> Ingest | None:
        """Start to store a digest; None if another writer holds it. Raises StoreError.

        Each trust domain (the origins whose deliveries are accepted; None: all) has a writer of its own. The result
        may start with `size` bytes of an interrupted writer of the same domain.
        """

    async def arriving(self, digest: Digest, domain: Origins | None = None) -> Arriving | None:
        """The content that another process writes now for the domain; None if none does. Raises StoreError."""

    async def remove(self, digest: Digest, content: Content | None = None) -> bool:
        """Remove a digest and return whether it was stored; open readers can still read it. Raises StoreError.

        With `content` (a result of `find`), only if that file is still the stored one.
        """

    def list(self) -> AsyncIterator[tuple[Digest, int]]:
        """Every digest and its size in bytes."""
