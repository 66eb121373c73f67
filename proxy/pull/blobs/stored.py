"""Stored content, opened and checked as the operator wants it."""

import logging
from typing import Literal

from cachetools import LRUCache

from proxy.observe.metrics import CACHE_CORRUPTIONS, CACHE_EVICTIONS
from proxy.observe.tracing import span
from proxy.oci.reference import Digest
from proxy.pull.blobs.download import check
from proxy.pull.blobs.live import Abandoned, ContentWrong, Progress
from proxy.store.blobs import BlobStore, Content, StoreError
from proxy.store.small import SMALL_CONTENT
from proxy.transport.singleflight import Background

VERIFIED_LIMIT = 200_000
"""Most digests whose verified size is cached."""
SPOILED_LIMIT = 10_000
"""Most digests whose stored content is corrupt and cannot be removed."""


class Verified:
    """Digests whose stored bytes were hashed in this process, and how many bytes those were."""

    def __init__(self) -> None:
        self._sizes: LRUCache[Digest, int] = LRUCache(VERIFIED_LIMIT)
        self._spoiled: LRUCache[Digest, bool] = LRUCache(SPOILED_LIMIT)

    def size(self, digest: Digest) -> int | None:
        """How many bytes a digest has; None where they were not hashed here."""
        return self._sizes.get(digest)

    def add(self, digest: Digest, size: int) -> None:
        """The bytes of a digest were right."""
        self._sizes[digest] = size
        self._spoiled.pop(digest, None)

    def discard(self, digest: Digest) -> None:
        """The digest is stored no more, or was wrong."""
        self._sizes.pop(digest, None)

    def spoil(self, digest: Digest) -> None:
        """The stored bytes are wrong and cannot be dropped: they are not used."""
        self._spoiled[digest] = True

    def is_spoiled(self, digest: Digest) -> bool:
        """Whether what is stored under the digest is not to be used."""
        return digest in self._spoiled


DISTRUSTED_LIMIT = 10_000
"""Digests that are remembered because their stored bytes could not be sent."""
SMALL_LIMIT = 50_000
"""Digests of small content whose sizes are remembered."""

_logger = logging.getLogger(__name__)


class Stored:
    """Opens stored content; what must be checked first is checked while it is sent."""

    def __init__(
        self,
        store: BlobStore,
        verified: Verified,
        background: Background,
        verify: Literal["ingest", "firstRead", "always"],
        distrusted_limit: int = DISTRUSTED_LIMIT,
    ) -> None:
        self._store = store
        self._verified = verified
        self._background = background
        self._verify = verify
        self._checks: dict[Digest, Progress] = {}
        self._distrusted: LRUCache[Digest, bool] = LRUCache(distrusted_limit)
        self._small: LRUCache[Digest, int] = LRUCache(SMALL_LIMIT)

    async def _find(self, digest: Digest) -> Content | None:
        with span("store", digest=digest.text):
            return await self._store.find(digest)

    async def small(self, digest: Digest) -> bytes | None:
        """All bytes of what is stored, small, and not to be checked first, if it is known to be so.

        None says nothing: `open` tells. Raises StoreError.
        """
        if digest not in self._small or not self._is_trusted(digest):
            return None
        with span("store", digest=digest.text):
            content = await self._store.small(digest)
        is_whole = content is not None and len(content) == self._small.get(digest)
        return content if is_whole and self._is_trusted(digest) else None

    def _is_trusted(self, digest: Digest) -> bool:
        """Whether what is stored may be sent as it is, as far as is known without a look at it."""
        return not (self._verified.is_spoiled(digest) or digest in self._checks or self._must_be_checked(digest))

    async def open(self, digest: Digest) -> Progress | None:
        """The stored content of a digest, to be released by who gets it; None where it is not stored.

        Raises StoreError.
        """
        if (under_way := self._checks.get(digest)) is not None:
            return _retained(under_way)
        content = None if self._verified.is_spoiled(digest) else await self._find(digest)
        if content is None:
            return None
        known = self._verified.size(digest)
        if known not in (None, content.size):
            error = ContentWrong(f"the stored file of {digest} has another size than it had")
            try:
                await self._forget(digest, error, content)
            finally:
                content.close()
            return None
        if not self._must_be_checked(digest):
            if content.size <= SMALL_CONTENT:
                self._small[digest] = content.size
            return _complete(content)
        if (under_way := self._checks.get(digest)) is not None:  # begun while we opened the file
            content.close()
            return _retained(under_way)
        progress = self._checks[digest] = Progress()
        progress.start(content, content.size)
        self._background.start(self._check(progress, content, digest))
        return _retained(progress)

    def distrust(self, digest: Digest) -> None:
        """The stored bytes could not be sent: whatever is configured, they are checked before they are sent again."""
        self._distrusted[digest] = True

    def _must_be_checked(self, digest: Digest) -> bool:
        if self._verify == "always" or digest in self._distrusted:
            return True
        return self._verify == "firstRead" and self._verified.size(digest) is None

    async def _check(self, progress: Progress, content: Content, digest: Digest) -> None:
        try:
            await check(progress, content, digest)
        except ContentWrong as error:
            await self._forget(digest, error, content)
            progress.fail(error)
        except StoreError as error:
            _logger.warning("%s cannot be read: %s", digest, error)
            if error.reason == "eio":  # a bad place on the disk does not get well
                await self._drop(digest, content)
            progress.fail(error)
        except Exception as error:
            _logger.exception("a bug: the check of %s", digest)
            progress.fail(error)
        else:
            self._verified.add(digest, content.size)
            self._distrusted.pop(digest, None)
        finally:
            self._checks.pop(digest, None)
            if not progress.has_ended:
                progress.fail(Abandoned("the check of what is stored has ended"))
            progress.finish()

    async def _forget(self, digest: Digest, error: ContentWrong, content: Content) -> None:
        _logger.error("%s: it is dropped and fetched anew", error)
        CACHE_CORRUPTIONS.labels("read").inc()
        if await self._drop(digest, content):
            CACHE_EVICTIONS.labels("corrupt").inc()

    async def _drop(self, digest: Digest, content: Content) -> bool:
        """Remove this content of a digest, and no other that has been stored since; whether it was there."""
        self._verified.discard(digest)
        self._small.pop(digest, None)
        try:
            removed = await self._store.remove(digest, content)
        except StoreError as error:
            self._verified.spoil(digest)
            _logger.warning("%s cannot be dropped, it is not used: %s", digest, error)
            return False
        self._distrusted.pop(digest, None)
        return removed


def _complete(content: Content) -> Progress:
    """Content that is known to be right, to be closed with its last reader."""
    progress = Progress()
    progress.start(content, content.size)
    progress.complete(content.size)
    _retained(progress).finish()
    return progress


def _retained(progress: Progress) -> Progress:
    progress.retain()
    return progress
