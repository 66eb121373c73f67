"""A manifest by tag or digest: fresh, revalidated, fetched, or stale while the upstream is unavailable."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cachetools import TTLCache

from proxy.config.cache import Cache
from proxy.config.model import Timeouts
from proxy.observe.metrics import CACHE_REQUESTS, Bound
from proxy.oci.descriptor import ACCEPT, Descriptor
from proxy.oci.errors import (
    Denied,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    TooManyRequests,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from proxy.oci.reference import Digest, Tag
from proxy.oci.request import Operation
from proxy.pull.blobs.live import CacheResult
from proxy.pull.manifests.fetch import Budget, Manifest, ManifestFetcher, accepts
from proxy.pull.manifests.store import ManifestStore
from proxy.routing.table import RepositoryKey, Route, Starter
from proxy.store.blobs import StoreError
from proxy.store.disk import DISK_SECONDS, count_write_error
from proxy.store.tags import TagEntry, Tags
from proxy.transport.clock import Deadline, DeadlineExceeded
from proxy.transport.singleflight import Background, SingleFlight
from proxy.upstream.errors import detail_of
from proxy.upstream.offline import not_cached, unreadable
from proxy.upstream.rate_limits import RateLimits

_TROUBLE = (UpstreamUnavailable, TooManyRequests, UpstreamInvalid)
_UNKNOWN = (ManifestUnknown, NameUnknown)
_NEGATIVES_LIMIT = 20_000
_SERVED = Bound(CACHE_REQUESTS)
_logger = logging.getLogger(__name__)


class Manifests:
    """Serves manifests."""

    def __init__(
        self,
        *,
        fetcher: ManifestFetcher,
        store: ManifestStore,
        tags: Tags,
        background: Background,
        rate_limits: RateLimits,
        cache: Cache,
        timeouts: Timeouts,
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._tags = tags
        self._background = background
        self._rate_limits = rate_limits
        self._cache = cache
        self._timeouts = timeouts
        self._resolves: SingleFlight[tuple[Starter, Tag], TagEntry] = SingleFlight(background)
        self._fetches: SingleFlight[tuple[Starter, Digest], Manifest] = SingleFlight(background)
        self._negatives: TTLCache[tuple[Starter, Tag | Digest], RegistryError] = TTLCache(
            _NEGATIVES_LIMIT, max(cache.negative_age, 0.001)
        )

    async def get(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest with its bytes; raises RegistryError."""
        return await self._serve(route, reference, accept, head=False)

    async def head(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest's descriptor; raises RegistryError."""
        return await self._serve(route, reference, accept, head=True)

    async def _serve(self, route: Route, reference: Tag | Digest, accept: str | None, *, head: bool) -> Manifest:
        kind = "tag" if isinstance(reference, Tag) else "manifest"
        manifest = self._remembered(route, reference, accept, head=head)
        if manifest is None:
            manifest = await self._within_budget(route, reference, accept, head=head)
        _SERVED[kind, manifest.way].inc()
        self._note_use(route, manifest)
        return manifest

    def _note_use(self, route: Route, manifest: Manifest) -> None:
        """Images are evicted by their last use, and listed by the names that nodes use."""
        self._tags.touch(manifest.descriptor.digest)
        name = f"{route.registry}/{route.repository}"
        if self._tags.is_new_name(route.key, name):
            self._background.start(self._note_name(route.key, name))

    async def _note_name(self, key: RepositoryKey, name: str) -> None:
        with _reported(f"the name {name} is not kept"):
            await self._tags.note_name(key, name)

    def _remembered(self, route: Route, reference: Tag | Digest, accept: str | None, *, head: bool) -> Manifest | None:
        """What is known without waiting: a fresh tag, and a manifest in memory."""
        key, age, digest = route.key, None, reference
        if isinstance(digest, Tag):
            known = self._tags.remembered(key, digest)
            if known is None or not self._is_fresh(known) or not accepts(accept, known.descriptor.media_type):
                return None
            age = known.age
            if head:
                return Manifest(known.descriptor, None, CacheResult.HIT, age)
            digest = known.descriptor.digest
        stored = self._store.remembered(route, digest)
        return stored if stored is None or age is None else replace(stored, age=age)

    async def _within_budget(
        self, route: Route, reference: Tag | Digest, accept: str | None, *, head: bool
    ) -> Manifest:
        deadline = Deadline.after(self._timeouts.manifest)
        try:
            async with deadline.enforced():
                return await self._manifest(route, reference, accept, head=head)
        except DeadlineExceeded:
            raise UpstreamTimeout(
                f"the upstream has not sent {reference} of {route.repository} in time; the request goes on, try again",
                detail=detail_of(route, route.targets[0], f"manifests/{reference}"),
                retry_after=5,
            ) from None
        except StoreError as error:
            if self._cache.offline:
                raise unreadable(route, f"manifests/{reference}", error) from None
            _logger.warning("%s passes through: %s", reference, error)
            return await self._pass(route, reference, accept, deadline, head=head)

    async def _manifest(self, route: Route, reference: Tag | Digest, accept: str | None, *, head: bool) -> Manifest:
        if isinstance(reference, Digest):
            return await self._by_digest(route, reference)
        entry, way = await self._resolve(route, reference)
        found = entry.descriptor
        if not accepts(accept, found.media_type):
            # A narrow client does not decide what others get, and gets what it can read.
            deadline = Deadline.after(self._timeouts.manifest)
            return await self._pass(route, reference, accept, deadline, head=head)
        age = entry.age if way in (CacheResult.HIT, CacheResult.STALE) else None
        if head:
            return Manifest(found, None, way, age)
        try:
            manifest = await self._by_digest(route, found.digest)
        except ManifestUnknown:
            # The tag has just moved, or the upstream reports a digest in its HEAD that it does not serve by.
            deadline = Deadline.after(self._timeouts.manifest)
            return await self._pass(route, reference, accept, deadline, head=False)
        way = way if way is CacheResult.STALE or manifest.way is CacheResult.HIT else manifest.way
        return replace(manifest, way=way, age=age)

    async def _by_digest(self, route: Route, digest: Digest) -> Manifest:
        stored = await self._store.find(route, digest)
        if stored is not None:
            return stored
        if self._cache.offline:
            raise not_cached(route, Operation.MANIFEST, f"manifests/{digest}")
        flight = (route.starter, digest)
        self._refuse_negative(*flight)
        way = CacheResult.JOIN if self._fetches.is_flying(flight) else CacheResult.MISS
        fetched = await self._fetches.run(flight, lambda: self._fetch(route, digest))
        return replace(fetched, way=way)

    async def _fetch(self, route: Route, digest: Digest) -> Manifest:
        try:
            fetched = await self._fetcher.get(route, digest, ACCEPT, self._budget())
        except _UNKNOWN as error:
            self._negatives[route.starter, digest] = error.copy()
            raise
        await self._keep(route.key, fetched)
        return fetched

    async def _resolve(self, route: Route, tag: Tag) -> tuple[TagEntry, CacheResult]:
        """What the tag points to, and how that is known; raises RegistryError and StoreError."""
        key = route.key
        known = self._tags.remembered(key, tag)
        if known is None or not self._is_fresh(known):  # another worker may have learned more since
            known = await self._tags.find(key, tag, anew=True)
        if known is not None and self._is_fresh(known):
            return known, CacheResult.HIT
        if self._cache.offline:
            raise not_cached(route, Operation.MANIFEST, f"manifests/{tag}")
        flight = (route.starter, tag)
        self._refuse_negative(*flight)
        if known is None:
            way = CacheResult.JOIN if self._resolves.is_flying(flight) else CacheResult.MISS
            return await self._resolves.run(flight, lambda: self._request(route, tag, None)), way
        return await self._confirm(route, tag, known)

    async def _confirm(self, route: Route, tag: Tag, known: TagEntry) -> tuple[TagEntry, CacheResult]:
        """Revalidate the tag; the known one is served when the upstream is unavailable or slow, or limits requests."""
        cache, starter = self._cache, route.starter
        is_recent = time.time() - known.confirmed < cache.tag_age + cache.stale_if_error
        may_be_stale = is_recent and (cache.stale_if_denied or not known.refused)
        saving = self._rate_limits.reason_to_save(route) if may_be_stale else None
        if saving is not None:
            _logger.info("%s:%s of %s is served stale: %s", route.repository, tag, route.registry, saving)
            return known, CacheResult.STALE
        try:
            patience = Deadline.after(cache.stale_after if may_be_stale else self._timeouts.manifest)
            async with patience.enforced():
                entry = await self._resolves.run((starter, tag), lambda: self._request(route, tag, known.descriptor))
        except DeadlineExceeded:
            reason = "the upstream is slow"
        except _TROUBLE as error:
            if not may_be_stale:
                raise
            reason = error.reason
        except (Denied, *_UNKNOWN) as error:
            # A client's own credential that is refused gets nothing, whatever is configured for the proxy's.
            if not (cache.stale_if_denied and may_be_stale and route.caller.login is None):
                raise
            reason = error.reason
        else:
            return entry, CacheResult.HIT if entry.descriptor.digest == known.descriptor.digest else CacheResult.MISS
        _logger.warning("%s:%s of %s is served stale: %s", route.repository, tag, route.registry, reason)
        return known, CacheResult.STALE

    async def _request(self, route: Route, tag: Tag, known: Descriptor | None) -> TagEntry:
        """Request it from the upstream, by HEAD where that is enough: registries count GETs."""
        key = route.key
        try:
            fetched = await self._fetcher.head(route, tag, ACCEPT, self._budget(), known)
        except _UNKNOWN as error:
            if known is None or not self._cache.stale_if_denied:
                self._negatives[route.starter, tag] = error.copy()
                await self._meanwhile(self._forget(key, tag))
            raise
        except Denied:
            if route.caller.login is None:
                await self._meanwhile(self._note_refusal(key, tag))
            raise
        entry = TagEntry(fetched.descriptor, time.time())
        await self._keep(key, fetched, (tag, entry))
        return entry

    async def _keep(self, key: RepositoryKey, fetched: Manifest, named: tuple[Tag, TagEntry] | None = None) -> None:
        await self._meanwhile(self._write(key, fetched, named))

    async def _meanwhile(self, work: Coroutine[Any, Any, None]) -> None:
        """Write to the store; one that hangs is not waited for, and gets what it is to have when it answers."""
        task = self._background.start(work)
        _, late = await asyncio.wait([task], timeout=DISK_SECONDS)
        if late:
            _logger.warning("the disk of the cache does not answer: requests do not wait for the write")

    async def _write(self, key: RepositoryKey, fetched: Manifest, named: tuple[Tag, TagEntry] | None) -> None:
        """Store what was fetched; a failing store fails no pull."""
        with _reported(f"{fetched.descriptor.digest} is not kept"):
            await self._store.keep(key, fetched)
            if named is not None:
                await self._tags.set(key, *named)

    async def _note_refusal(self, key: RepositoryKey, tag: Tag) -> None:
        """The proxy's own credentials are refused: what is known of the tag is not served stale until that changes."""
        with _reported(f"tag {tag} is not marked as refused"):
            known = await self._tags.find(key, tag)
            if known is not None and not known.refused:
                await self._tags.set(key, tag, replace(known, refused=True))

    async def _forget(self, key: RepositoryKey, tag: Tag) -> None:
        with _reported(f"tag {tag} is not removed"):
            await self._tags.remove(key, tag)

    async def _pass(
        self, route: Route, reference: Tag | Digest, accept: str | None, deadline: Deadline, *, head: bool
    ) -> Manifest:
        fetch = self._fetcher.head if head else self._fetcher.get
        return await fetch(route, reference, accept, Budget(deadline))

    def _is_fresh(self, known: TagEntry) -> bool:
        """Whether the tag is served without a request to the upstream."""
        return self._cache.offline or known.is_young(self._cache.tag_age)

    def _budget(self) -> Budget:
        return Budget(Deadline.after(self._cache.fetch_timeout), self._timeouts.manifest)

    def _refuse_negative(self, starter: Starter, reference: Tag | Digest) -> None:
        error = self._negatives.get((starter, reference))
        if error is not None:
            raise error.copy()


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Log and count what the store refuses in the block: a failing store fails no pull."""
    try:
        yield
    except StoreError as error:
        count_write_error(error)
        _logger.warning("%s: %s", what, error)
