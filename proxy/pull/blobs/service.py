"""A blob by digest: stored, joined, or fetched; and passed through where the store cannot help."""

import logging
from collections.abc import AsyncGenerator, Callable

from proxy.observe.metrics import CACHE_REQUESTS, COALESCED_WAITERS, Bound
from proxy.oci.byterange import ByteRange
from proxy.oci.errors import UpstreamInvalid
from proxy.oci.reference import Digest
from proxy.pull.blobs.live import Blob, CacheResult, Passing, Piece, Progress
from proxy.pull.blobs.passthrough import SMALL
from proxy.pull.blobs.recovery import Recovery, follow
from proxy.pull.blobs.sources import BlobParts, BlobSources, OthersTrouble
from proxy.routing.table import Route
from proxy.store.blobs import StoreError
from proxy.transport.clock import Deadline

FAR_AHEAD = 64 * 1024 * 1024
"""A range that begins so many bytes ahead of the writer is fetched by itself."""

_SERVED = Bound(CACHE_REQUESTS)
_logger = logging.getLogger(__name__)


class Blobs:
    """Serves blobs."""

    def __init__(self, parts: BlobParts) -> None:
        self._parts = parts
        self._sources = BlobSources(parts)
        self._recovery = Recovery(self._sources.find_own, parts.passthrough, parts.suspects, parts.timeouts)

    async def get(self, route: Route, digest: Digest, wanted_range: ByteRange | None) -> Blob:
        """The blob or a range of it, with its body still to come; raises RegistryError."""
        deadline = Deadline.after(self._parts.timeouts.blob)
        try:
            blob = await self._get(route, digest, wanted_range, deadline)
        except StoreError as error:
            _logger.warning("%s passes through: %s", digest, error)
            blob = await self._parts.passthrough.get(route, digest, wanted_range, deadline)
        _SERVED["blob", blob.way].inc()
        return blob

    async def head(self, route: Route, digest: Digest) -> int:
        """The size of the blob in bytes; raises RegistryError, BlobUnknown for what is a manifest."""
        deadline = Deadline.after(self._parts.timeouts.blob)
        try:
            return await self._head(route, digest, deadline)
        except StoreError as error:
            _logger.warning("%s passes through: %s", digest, error)
            return await self._parts.passthrough.head(route, digest, deadline)

    async def _get(self, route: Route, digest: Digest, wanted: ByteRange | None, deadline: Deadline) -> Blob:
        self._sources.refuse_manifest(route, digest)
        await self._parts.suspects.refuse_tail(route.registry, digest, wanted)
        content = await self._sources.small(route, digest)
        if content is not None:
            return _small_blob(digest, content, wanted)
        try:
            progress, way = await self._sources.get(route, digest, deadline)
        except OthersTrouble as error:
            _logger.warning("%s passes through: %s", digest, error)
            return await self._parts.passthrough.get(route, digest, wanted, deadline)
        try:
            return await self._blob(route, digest, wanted, (progress, way), deadline)
        except BaseException:
            progress.release()
            raise

    async def _blob(
        self,
        route: Route,
        digest: Digest,
        wanted: ByteRange | None,
        source: tuple[Progress, CacheResult],
        deadline: Deadline,
    ) -> Blob:
        progress, way = source
        size = progress.size
        span = wanted.resolve(size) if wanted is not None and size is not None else None
        first, last = (span.first, span.last) if span else (0, None if size is None else size - 1)
        if not progress.verified and first > progress.available + FAR_AHEAD:
            passed = await self._parts.passthrough.get(route, digest, wanted, deadline)
            progress.release()
            return passed
        hold_all = self._parts.cache.delivery == "verified"
        passing = Passing()
        recover = self._recovery.of(route, digest, passing)
        return Blob(
            digest,
            size,
            span,
            lambda: follow(progress, first, last, recover, hold_all=hold_all),
            way=way,
            close=_closer(progress, way),
            reclaim=passing.reclaim,
            distrust=lambda: self._parts.stored.distrust(digest),
        )

    async def _head(self, route: Route, digest: Digest, deadline: Deadline) -> int:
        self._sources.refuse_manifest(route, digest)
        content = await self._sources.small(route, digest)
        if content is not None:
            return len(content)
        size = await self._sources.known_size(route, digest, deadline)
        if size is not None:
            return size
        size = await self._sources.ask_size(route, digest, deadline)
        if size is None or (size <= SMALL and self._parts.kinds.known(digest) is None):
            blob = await self._get(route, digest, None, deadline)
            blob.close()
            size = size if blob.size is None else blob.size
        if size is None:
            raise UpstreamInvalid(f"no endpoint of {route.registry} tells the size of {digest}")
        return size


def _small_blob(digest: Digest, content: bytes, wanted: ByteRange | None) -> Blob:
    """A stored blob that is in memory; raises RangeInvalid."""
    span = None if wanted is None else wanted.resolve(len(content))
    part = content if span is None else content[span.first : span.last + 1]

    async def chunks() -> AsyncGenerator[Piece, None]:
        yield part

    return Blob(digest, len(content), span, chunks, CacheResult.HIT, part)


def _closer(progress: Progress, way: CacheResult) -> Callable[[], None]:
    """Lets go of what a client read, and counts those who wait behind somebody else's download."""
    if way is not CacheResult.JOIN:
        return progress.release
    COALESCED_WAITERS.inc()

    def close() -> None:
        COALESCED_WAITERS.dec()
        progress.release()

    return close
