"""Where the bytes of a blob come from: what is stored, a download in flight, or one that is begun."""

import logging
from collections.abc import Callable

from proxy.oci.errors import (
    RegistryError,
    UpstreamDigestInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from proxy.oci.reference import Digest
from proxy.oci.request import Operation
from proxy.pull.blobs.downloads import Downloads
from proxy.pull.blobs.live import RATE_SECONDS, Abandoned, BlobHead, CacheResult, ContentWrong, Progress, WriterStalled
from proxy.pull.blobs.passthrough import SMALL, VERIFIED, head_size
from proxy.pull.blobs.recovery import ATTEMPTS
from proxy.pull.blobs.stored import Stored
from proxy.pull.known_manifests import KnownManifests, may_begin_manifest, parse, refuse_manifest
from proxy.routing.table import Route
from proxy.store.blobs import StoreError
from proxy.store.disk import count_write_error, within_timeout
from proxy.store.layout import Link, LinkKind
from proxy.store.provenance import Provenance
from proxy.store.tags import Tags
from proxy.transport.clock import Deadline, DeadlineExceeded
from proxy.upstream.client import UpstreamClient
from proxy.upstream.errors import detail_of
from proxy.upstream.send import UpstreamRequest

BEGINNING = 512
"""Bytes that distinguish a layer from what could be a manifest."""
OTHERS_SHARE = 0.5
"""Share of its time that a client waits for a download to begin that another client requested."""

_logger = logging.getLogger(__name__)


class PassThroughInstead(Exception):
    """A download for another client, repository or process is of no use here: this client's own upstream is used."""


class ServedElsewhere(Exception):
    """A download from another registry is of no use to this client: its own registry may do better."""


class BlobSources:
    """Finds sources, and makes sure that they may be used."""

    def __init__(
        self,
        *,
        client: UpstreamClient,
        stored: Stored,
        downloads: Downloads,
        tags: Tags,
        provenance: Provenance,
        known_manifests: KnownManifests,
    ) -> None:
        self._client = client
        self._stored = stored
        self._downloads = downloads
        self._tags = tags
        self._provenance = provenance
        self._known_manifests = known_manifests

    async def get(self, route: Route, digest: Digest, deadline: Deadline) -> tuple[Progress, CacheResult]:
        """Where the bytes come from, once that is known to be allowed, to be released by who gets it.

        Raises RegistryError, StoreError and PassThroughInstead.
        """
        failure: Exception = Abandoned("nothing was found")
        is_for_other = is_own = False
        for _ in range(ATTEMPTS):
            progress, way = await self.find(route, digest, is_own=is_own)
            try:
                if await self._is_good(route, digest, progress, deadline):
                    return progress, way
            except ServedElsewhere as error:
                _logger.info("%s is fetched from %s itself: %s", digest, route.registry, error)
                progress.release()
                is_own = True
                continue
            except BaseException:
                progress.release()
                raise
            progress.release()
            before, failure = failure, progress.failure or failure
            is_for_other = progress.is_for_other(route.starter)
            if not self._may_try_again(route, progress, before):
                break
        if is_for_other:
            raise PassThroughInstead("another client requested it, and its upstream does not have it for that client")
        if isinstance(failure, Abandoned):
            raise PassThroughInstead(str(failure))
        raise self._as_client_error(route, digest, failure)

    async def find(self, route: Route, digest: Digest, *, is_own: bool = False) -> tuple[Progress, CacheResult]:
        """What is stored or on its way, begun if need be, to be released by who gets it; raises StoreError.

        With `is_own` no download of another registry.
        """
        stored = await self._open_stored(route, digest)
        if stored is not None:
            return stored, CacheResult.HIT
        way = CacheResult.MISS if self._downloads.active(route, digest, is_own=is_own) is None else CacheResult.JOIN
        progress = self._downloads.start(route, digest, is_own=is_own)
        progress.retain()
        return progress, way

    async def find_own(self, route: Route, digest: Digest) -> tuple[Progress, CacheResult]:
        """As `find`, for a client that is being sent the content: another registry's only once it is verified."""
        progress, way = await self.find(route, digest)
        if progress.verified or progress.origins <= route.origins:
            return progress, way
        progress.release()
        return await self.find(route, digest, is_own=True)

    async def small(self, route: Route, digest: Digest) -> bytes | None:
        """All bytes of a stored blob that is small, where all that `get` makes sure of is known already.

        Raises StoreError.
        """
        is_blob = self._known_manifests.known(digest) is False
        is_delivered = route.domain is None or self._provenance.knows(digest, route.domain)
        if is_blob and is_delivered and self._tags.knows_link(route.key, Link(digest, LinkKind.BLOB)):
            return await self._stored.small(digest)
        return None

    async def known_size(self, route: Route, digest: Digest, deadline: Deadline) -> BlobHead | None:
        """The size of what is stored, or of a download in flight that knows it; raises RegistryError, StoreError."""
        progress, way = await self._open_stored(route, digest), CacheResult.HIT
        if progress is None:
            way = CacheResult.JOIN
            progress = self._downloads.active(route, digest)
            if progress is None or progress.size is None or progress.failure is not None:
                return None
            progress.retain()
        try:
            is_good = await self._is_good(route, digest, progress, deadline)
            return BlobHead(progress.size, way) if is_good and progress.size is not None else None
        except (PassThroughInstead, ServedElsewhere):
            return None
        finally:
            progress.release()

    async def _open_stored(self, route: Route, digest: Digest) -> Progress | None:
        """What is stored, where it counts for the route; raises StoreError."""
        if route.domain is not None and not await self._provenance.covers(digest, route.domain):
            return None
        return await self._stored.open(digest)

    async def request_size(self, route: Route, digest: Digest, deadline: Deadline) -> int | None:
        """Request the size upstream, which shows that the repository has it; raises RegistryError and StoreError."""
        request = UpstreamRequest(Operation.BLOB, f"blobs/{digest}", "HEAD", "*/*")
        size = await head_size(self._client, route, request, deadline)
        await self._link(route, digest)
        return size

    async def _is_good(self, route: Route, digest: Digest, progress: Progress, deadline: Deadline) -> bool:
        """Whether it has begun well, belongs to the repository and is no manifest.

        Raises RegistryError, PassThroughInstead and ServedElsewhere.
        """
        if not progress.verified:
            await self._wait_started(route, digest, progress, deadline)
            await self._wait_elsewhere(route, digest, progress, deadline)
        if progress.failure is not None and not progress.available:
            return False
        await self._confirm(route, digest, progress, deadline)
        size, is_seen = progress.size, self._known_manifests.known(digest) is not None
        if size is not None and size <= VERIFIED:
            return await self._is_blob(route, digest, progress, deadline)
        if (
            is_seen
            or (size is not None and size > SMALL)
            or not await self._may_be_manifest(route, digest, progress, deadline)
        ):
            return True
        return await self._is_blob(route, digest, progress, deadline)

    async def _may_be_manifest(self, route: Route, digest: Digest, progress: Progress, deadline: Deadline) -> bool:
        """Whether the first bytes could be those of a manifest; layers do not begin so, and need not be waited for."""
        try:
            await self._as_own(
                lambda: bool(progress.available) or progress.has_ended,
                route,
                digest,
                progress,
                deadline,
            )
        except DeadlineExceeded:
            return True
        content = progress.content
        return content is None or may_begin_manifest(await within_timeout(content.read(0, BEGINNING)))

    async def _wait_started(self, route: Route, digest: Digest, progress: Progress, deadline: Deadline) -> None:
        is_for_other = progress.is_for_other(route.starter)
        try:
            await self._as_own(progress.started.is_set, route, digest, progress, deadline, is_for_other=is_for_other)
        except DeadlineExceeded:
            raise self._timeout_error(route, digest) from None

    async def _as_own(
        self,
        is_ready: Callable[[], bool],
        route: Route,
        digest: Digest,
        progress: Progress,
        deadline: Deadline,
        *,
        is_for_other: bool = False,
    ) -> None:
        """As `_until`, with time left for the client's own upstream where another client or process delivers it.

        Raises PassThroughInstead, and what `_until` raises.
        """
        try:
            await self._until(is_ready, route, digest, progress, Deadline.after(deadline.remaining * OTHERS_SHARE))
        except DeadlineExceeded:
            if is_for_other or progress.is_remote:  # which shows only after its beginning
                raise PassThroughInstead("another client requested it, and it does not arrive") from None
            await self._until(is_ready, route, digest, progress, deadline)

    async def _wait_elsewhere(self, route: Route, digest: Digest, progress: Progress, deadline: Deadline) -> None:
        """Wait for all of what another registry delivers: its bytes are sent to nobody else before they are verified.

        Raises ServedElsewhere.
        """
        if not progress.origins - route.origins:
            return
        waiting = Deadline.after(deadline.remaining * OTHERS_SHARE)
        try:
            await self._until(lambda: progress.has_ended, route, digest, progress, waiting)
        except DeadlineExceeded:
            raise ServedElsewhere("another registry has not sent all of it in time") from None

    async def _until(
        self, is_ready: Callable[[], bool], route: Route, digest: Digest, progress: Progress, deadline: Deadline
    ) -> None:
        """Wait for the content to change; raises DeadlineExceeded, and ServedElsewhere where `serves_badly` holds."""
        async with deadline.enforced():
            while not is_ready():
                if self._downloads.serves_badly(progress, route, digest):
                    raise ServedElsewhere("another registry is too slow, or has sent corrupt content of it")
                await progress.changed(RATE_SECONDS)

    async def _confirm(self, route: Route, digest: Digest, progress: Progress, deadline: Deadline) -> None:
        """Make sure that the repository holds the digest: by a manifest, or because the upstream says so."""
        key = route.key
        if progress.confirmed == key:
            await self._link(route, digest)
        elif not await self._tags.is_linked(key, Link(digest, LinkKind.BLOB)):
            await self.request_size(route, digest, deadline)  # which notes it

    async def _link(self, route: Route, digest: Digest) -> None:
        """Note that the repository holds the digest; raises StoreError."""
        try:
            await self._tags.link_blob(route.key, digest)
        except StoreError as error:
            count_write_error(error)
            raise

    async def _is_blob(self, route: Route, digest: Digest, progress: Progress, deadline: Deadline) -> bool:
        """Wait for all bytes of what is small, or could be a manifest, and look at them; whether they came."""
        try:
            await self._as_own(
                lambda: progress.has_ended or progress.available > SMALL,
                route,
                digest,
                progress,
                deadline,
            )
        except DeadlineExceeded:
            raise self._timeout_error(route, digest) from None
        if progress.available > SMALL:
            return True
        if progress.failure is not None:
            return False
        if self._known_manifests.known(digest) is None:
            content = b"" if progress.content is None else await within_timeout(progress.content.read(0, SMALL))
            self._known_manifests.learn(digest, await parse(content))
        refuse_manifest(self._known_manifests, route, digest)
        return True

    def _may_try_again(self, route: Route, progress: Progress, before: Exception) -> bool:
        """Whether another source may do better: after corrupt content once, and after another client's failure."""
        if isinstance(progress.failure, ContentWrong):
            return not isinstance(before, ContentWrong)
        if isinstance(progress.failure, WriterStalled):
            return False
        return isinstance(progress.failure, Abandoned) or progress.is_for_other(route.starter)

    def _timeout_error(self, route: Route, digest: Digest) -> UpstreamTimeout:
        reason = f"the upstream has not sent {digest} in time; the download continues, try again"
        return UpstreamTimeout(reason, detail=_detail(route, digest), retry_after=5)

    def _as_client_error(self, route: Route, digest: Digest, failure: Exception) -> Exception:
        """The failure of a download as the node may see it."""
        if isinstance(failure, RegistryError):
            return failure.copy()  # the download keeps its failure, which must not keep who waited for it
        if isinstance(failure, StoreError):
            return failure
        if isinstance(failure, ContentWrong):
            return UpstreamDigestInvalid(str(failure), detail=_detail(route, digest))
        return UpstreamUnavailable(f"{digest}: {failure}", detail=_detail(route, digest), retry_after=1)


def _detail(route: Route, digest: Digest) -> dict[str, str]:
    return detail_of(route, route.targets[0], f"blobs/{digest}")
