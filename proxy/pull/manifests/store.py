"""Manifests that are stored: by digest, and only for repositories that are known to hold them."""

from cachetools import LRUCache

from proxy.config.address import Origin
from proxy.oci.descriptor import MANIFEST_LIMIT, Descriptor
from proxy.oci.reference import Digest
from proxy.pull.blobs.live import CacheResult
from proxy.pull.blobs.stored import Stored
from proxy.pull.known_manifests import KnownManifests, parse
from proxy.pull.manifests.fetch import Manifest
from proxy.routing.table import RepositoryKey, Route
from proxy.store.blobs import BlobStore, StoreError
from proxy.store.disk import within_timeout
from proxy.store.eviction import Evictor
from proxy.store.layout import Link, LinkKind
from proxy.store.provenance import Provenance
from proxy.store.tags import Tags
from proxy.transport.limits import QueueFull, large_place

MEMORY = 16 * 1024 * 1024
"""Bytes of manifests that are kept in memory as well."""
WRITING_LIMIT = 16 * 1024 * 1024
"""Bytes of manifests that are being written at one time; what comes while they are is not kept."""


class ManifestStore:
    """Finds and keeps manifests."""

    def __init__(
        self,
        store: BlobStore,
        stored: Stored,
        tags: Tags,
        evictor: Evictor,
        *,
        provenance: Provenance,
        known_manifests: KnownManifests,
    ) -> None:
        self._store = store
        self._provenance = provenance
        self._stored = stored
        self._tags = tags
        self._evictor = evictor
        self._known_manifests = known_manifests
        self._writing = 0
        self._memory: LRUCache[Digest, Manifest] = LRUCache(MEMORY, getsizeof=lambda item: item.descriptor.size)

    def forget(self) -> None:
        """Drop what is in memory: the stored files have been changed by somebody else."""
        self._memory.clear()

    async def find(self, route: Route, digest: Digest) -> Manifest | None:
        """The stored manifest, if the repository is known to hold it and it counts for the route; raises StoreError."""
        if not await self._tags.is_linked(route.key, Link(digest, LinkKind.MANIFEST)):
            return None
        if route.domain is not None and not await self._provenance.covers(digest, route.domain):
            return None
        return self._memory.get(digest) or await self._load(digest)

    def remembered(self, route: Route, digest: Digest) -> Manifest | None:
        """What `find` would give, where it needs neither disk nor index for it."""
        if route.domain is not None and not self._provenance.knows(digest, route.domain):
            return None
        known = self._tags.knows_link(route.key, Link(digest, LinkKind.MANIFEST))
        return self._memory.get(digest) if known else None

    async def keep(self, key: RepositoryKey, fetched: Manifest) -> None:
        """Store a verified manifest, and note who has delivered it and what the repository holds by it.

        One whose bytes alone do not tell its media type is not kept: the type is not stored beside them.
        Raises StoreError.
        """
        found, content, parsed = fetched.descriptor, fetched.content, fetched.parsed
        if content is None or parsed is None or fetched.origin is None or parsed.own_type != found.media_type:
            return
        if self._writing + len(content) > WRITING_LIMIT:
            raise StoreError("more manifests come than the disk of the cache takes", "timeout")
        self._writing += len(content)
        try:
            await self._write(found.digest, content, frozenset({fetched.origin}))
        finally:
            self._writing -= len(content)
        self._remember(Manifest(found, content, CacheResult.HIT))
        await self._tags.link_manifest(key, found.digest, parsed.contents)

    async def _write(self, digest: Digest, content: bytes, origins: frozenset[Origin]) -> None:
        may_store = await self._evictor.make_room(len(content))
        ingest = await self._store.begin(digest, origins) if may_store else None
        if ingest is not None and ingest.size:  # an interrupted writer's: too small to go on with
            try:
                await ingest.abort()
            finally:
                ingest.close()
            ingest = await self._store.begin(digest, origins)
        if ingest is None:
            await self._provenance.record(digest, origins)
        else:
            try:
                await ingest.write(content)
                await ingest.commit(origins)
            except BaseException:
                await ingest.abort()
                raise
            finally:
                ingest.close()

    async def _load(self, digest: Digest) -> Manifest | None:
        progress = await self._stored.open(digest)
        if progress is None:
            return None
        try:
            if progress.size is None or progress.size > MANIFEST_LIMIT:
                return None  # a blob: the beginning of it could pass for a manifest
            while not progress.has_ended:
                await progress.changed()
            if progress.failure is not None or progress.content is None:
                return None
            async with large_place(progress.size):
                content = await within_timeout(progress.content.read(0, progress.size))
                if len(content) != progress.size:
                    raise StoreError(f"the stored file of {digest} is shorter than it was")
                parsed = await parse(content)
        except QueueFull as error:
            raise StoreError(f"{digest} is not read: {error}") from None
        finally:
            progress.release()
        if parsed.own_type is None:
            return None  # a blob: it is none under /manifests/
        found = Manifest(Descriptor(parsed.own_type, digest, len(content)), content, CacheResult.HIT)
        self._remember(found)
        return found

    def _remember(self, manifest: Manifest) -> None:
        self._known_manifests.learn_manifest(manifest.descriptor.digest)
        if manifest.descriptor.size <= MEMORY:
            self._memory[manifest.descriptor.digest] = manifest
