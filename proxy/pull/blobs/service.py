"""A blob by digest: stored, joined, or fetched; and passed through where the store cannot help."""

import logging
from collections.abc import AsyncGenerator

from proxy.config.cache import Cache
from proxy.config.model import Timeouts
from proxy.observe.metrics import CACHE_REQUESTS, COALESCED_WAITERS, Bound
from proxy.oci.byterange import ByteRange, Span
from proxy.oci.errors import UpstreamInvalid
from proxy.oci.reference import Digest
from proxy.pull.blobs.live import Blob, BlobHead, CacheResult, MemoryBlob, Passing, Piece, Progress
from proxy.pull.blobs.mismatched_digests import MismatchedDigests
from proxy.pull.blobs.passthrough import SMALL, PassThrough
from proxy.pull.blobs.recovery import Recovery, follow
from proxy.pull.blobs.sources import BlobSources, PassThroughInstead
from proxy.pull.blobs.stored import Stored
from proxy.pull.known_manifests import KnownManifests, refuse_manifest
from proxy.routing.table import Route
from proxy.store.blobs import StoreError
from proxy.transport.clock import Deadline

FAR_AHEAD = 64 * 1024 * 1024
"""A range that begins so many bytes ahead of the writer is fetched by itself."""

_SERVED = Bound(CACHE_REQUESTS)
_logger = logging.getLogger(__name__)


class Blobs:
    """Serves blobs."""

    def __init__(
        self,
        *,
        sources: BlobSources,
        stored: Stored,
        passthrough: PassThrough,
        known_manifests: KnownManifests,
        mismatched: MismatchedDigests,
        cache: Cache,
        timeouts: Timeouts,
        far_ahead: int = FAR_AHEAD,
    ) -> None:
        self._far_ahead = far_ahead
        self._sources = sources
        self._stored = stored
        self._passthrough = passthrough
        self._known_manifests = known_manifests
        self._mismatched = mismatched
        self._cache = cache
        self._timeouts = timeouts
        self._recovery = Recovery(sources.find_own, passthrough, mismatched, timeouts)

    async def get(self, route: Route, digest: Digest, wanted_range: ByteRange | None) -> Blob:
        """The blob or a range of it, with its body still to come; raises RegistryError."""
        deadline = Deadline.after(self._timeouts.blob)
        try:
            blob = await self._get(route, digest, wanted_range, deadline)
        except StoreError as error:
            _logger.warning("%s passes through: %s", digest, error)
            blob = await self._passthrough.get(route, digest, wanted_range, deadline)
        _SERVED["blob", blob.way].inc()
        return blob

    async def head(self, route: Route, digest: Digest) -> BlobHead:
        """The size of the blob, and how it would be served; raises RegistryError, BlobUnknown for a manifest."""
        deadline = Deadline.after(self._timeouts.blob)
        try:
            return await self._head(route, digest, deadline)
        except StoreError as error:
            _logger.warning("%s passes through: %s", digest, error)
            return BlobHead(await self._passthrough.head(route, digest, deadline), CacheResult.BYPASS)

    async def _get(self, route: Route, digest: Digest, wanted: ByteRange | None, deadline: Deadline) -> Blob:
        refuse_manifest(self._known_manifests, route, digest)
        await self._mismatched.refuse_tail(route.registry, digest, wanted)
        content = await self._sources.small(route, digest)
        if content is not None:
            return MemoryBlob(digest, content, wanted, CacheResult.HIT)
        try:
            progress, way = await self._sources.get(route, digest, deadline)
        except PassThroughInstead as error:
            _logger.warning("%s passes through: %s", digest, error)
            return await self._passthrough.get(route, digest, wanted, deadline)
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
        if not (progress.verified or self._cache.offline) and first > progress.available + self._far_ahead:
            passed = await self._passthrough.get(route, digest, wanted, deadline)
            progress.release()
            return passed
        passing = Passing()
        recover = self._recovery.of(route, digest, passing)
        pieces = follow(progress, first, last, recover, hold_all=self._cache.delivery == "verified")
        return FollowedBlob(
            digest, size, span, way, progress=progress, passing=passing, stored=self._stored, pieces=pieces
        )

    async def _head(self, route: Route, digest: Digest, deadline: Deadline) -> BlobHead:
        refuse_manifest(self._known_manifests, route, digest)
        content = await self._sources.small(route, digest)
        if content is not None:
            return BlobHead(len(content), CacheResult.HIT)
        known = await self._sources.known_size(route, digest, deadline)
        if known is not None:
            return known
        size = await self._sources.request_size(route, digest, deadline)
        if size is None or (size <= SMALL and self._known_manifests.known(digest) is None):
            blob = await self._get(route, digest, None, deadline)
            blob.close()
            size = size if blob.size is None else blob.size
        if size is None:
            raise UpstreamInvalid(f"no endpoint of {route.registry} reports the size of {digest}")
        return BlobHead(size, CacheResult.MISS)


class FollowedBlob(Blob):
    """A blob that is stored, or read behind its writer; it goes on from elsewhere where that fails."""

    __slots__ = ("_passing", "_pieces", "_progress", "_stored")

    def __init__(
        self,
        digest: Digest,
        size: int | None,
        span: Span | None,
        way: CacheResult,
        *,
        progress: Progress,
        passing: Passing,
        stored: Stored,
        pieces: AsyncGenerator[Piece, None],
    ) -> None:
        super().__init__(digest, size, span, way=way)
        self._progress = progress
        self._passing = passing
        self._stored = stored
        self._pieces = pieces
        if way is CacheResult.JOIN:
            COALESCED_WAITERS.inc()

    def pieces(self) -> AsyncGenerator[Piece, None]:
        """What is there, as it comes."""
        return self._pieces

    def close(self) -> None:
        """Let go of the content."""
        if self.way is CacheResult.JOIN:
            COALESCED_WAITERS.dec()
        self._progress.release()

    def reclaim(self) -> bool:
        """Whether the rest comes straight from an upstream whose place must be released now."""
        return self._passing.reclaim()

    def distrust(self) -> None:
        """Have what is stored checked."""
        self._stored.distrust(self.digest)
