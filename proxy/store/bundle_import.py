"""Images of a bundle into the store, as if the endpoints of their registries had delivered them.

All bytes come from the bundle and are verified before they are stored; what a bundle only names is not taken from
elsewhere in the store, which another registry may have delivered. Tags and links are written after all content.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from proxy.config.base import readable_size
from proxy.oci.descriptor import Contents, Descriptor
from proxy.oci.reference import Digest, ImageReference, Tag
from proxy.routing.table import RepositoryKey, Route
from proxy.store.blobs import Ingest, Origins
from proxy.store.bundle import BundleReader
from proxy.store.eviction import Obstacle
from proxy.store.opened import OpenedStore
from proxy.store.pins import PIN_ADVICE
from proxy.store.tags import TagEntry
from proxy.store.tar_entries import BundleError

DEPTH_LIMIT = 4
"""Indexes within indexes."""
NAMED_LIMIT = 500_000
"""Digests that the manifests of all images name together."""
BATCH = 1024 * 1024

Advance = Callable[[int], None]
"""Is called with the number of bytes that have been read."""


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image of a bundle, and the repository that it goes to; `keys` are those under which it is requested."""

    image: ImageReference
    route: Route
    keys: Sequence[RepositoryKey]
    manifest: Descriptor


@dataclass(slots=True)
class ImportPlan:
    """What there is to import."""

    manifests: dict[Digest, tuple[Descriptor, Contents]] = field(default_factory=dict)
    images: list[tuple[PlacedImage, tuple[Digest, ...]]] = field(default_factory=list)
    """Each with the manifests that the bundle has of it."""
    sizes: dict[Digest, int] = field(default_factory=dict)
    origins: dict[Digest, set[Origins]] = field(default_factory=dict)
    absent: int = 0
    """Manifests that an index names and the bundle does not have: platforms that nobody exported."""

    @property
    def size(self) -> int:
        """Bytes of all content."""
        return sum(self.sizes.values())


def plan_import(bundle: BundleReader, placed: Sequence[PlacedImage], digests_limit: int) -> ImportPlan:
    """Read and verify all manifests; raises BundleError where an image cannot be imported as a whole. Blocking."""
    plan, named = ImportPlan(), 0
    for each in placed:
        manifests: dict[Digest, None] = {}
        waiting = [(each.manifest, 0)]
        while waiting:
            listed, depth = waiting.pop()
            if listed.digest in manifests:
                continue
            if depth > DEPTH_LIMIT:
                raise BundleError(f"index {listed.digest} is nested more than {DEPTH_LIMIT} levels deep")
            contents = _contents(plan, bundle, listed, digests_limit)
            named += len(contents.blobs) + len(contents.manifests)
            if named > NAMED_LIMIT:
                raise BundleError(f"its manifests name more than {NAMED_LIMIT} digests")
            manifests[listed.digest] = None
            present = [held for held in contents.manifests if bundle.size(held.digest) is not None]
            plan.absent += len(contents.manifests) - len(present)
            waiting += [(held, depth + 1) for held in present]
        if not any(plan.manifests[digest][1].blobs for digest in manifests):
            raise BundleError(f"{each.image}: no platform of it is in the bundle")
        plan.images.append((each, tuple(manifests)))
        _add_content(plan, bundle, each, tuple(manifests))
    return plan


def _contents(plan: ImportPlan, bundle: BundleReader, listed: Descriptor, digests_limit: int) -> Contents:
    """What a manifest holds, read once; raises BundleError."""
    if listed.digest not in plan.manifests:
        content, parsed = bundle.manifest(listed)
        if len(parsed.contents.blobs) + len(parsed.contents.manifests) > digests_limit:
            raise BundleError(
                f"manifest {listed.digest} names more digests than cache.maxManifestDigests allows: raise it"
            )
        plan.manifests[listed.digest] = Descriptor(listed.media_type, listed.digest, len(content)), parsed.contents
    return plan.manifests[listed.digest][1]


def _add_content(plan: ImportPlan, bundle: BundleReader, placed: PlacedImage, manifests: Sequence[Digest]) -> None:
    """Add what an image consists of; raises BundleError for a blob that the bundle does not have."""
    for digest in manifests:
        described, contents = plan.manifests[digest]
        for held in (described, *contents.blobs):
            size = bundle.size(held.digest)
            if size is None:
                raise BundleError(f"{placed.image}: {held.digest} is missing: export or copy the image again")
            if size != held.size:
                raise BundleError(f"{placed.image}: {held.digest} has {size} bytes and not {held.size}")
            plan.sizes[held.digest] = size
            plan.origins.setdefault(held.digest, set()).add(placed.route.origins)


class BundleImporter:
    """Stores the images of a plan."""

    def __init__(self, store: OpenedStore, bundle: BundleReader, max_size: int, advance: Advance) -> None:
        self._store = store
        self._bundle = bundle
        self._max_size = max_size
        self._advance = advance

    async def run(self, plan: ImportPlan) -> None:
        """Store all content, then the links and tags; raises BundleError and StoreError."""
        await self._make_room(plan)
        for digest, size in plan.sizes.items():
            await self._store_one(digest, size, sorted(plan.origins[digest], key=lambda item: sorted(map(str, item))))
        for digest in plan.sizes:
            await self._require(digest)
        now = time.time()
        for placed, manifests in plan.images:
            for key in placed.keys:
                await self._link(plan, placed, key, manifests, now)
        await asyncio.to_thread(self._store.layout.announce_change)

    async def _make_room(self, plan: ImportPlan) -> None:
        if plan.size > self._max_size:
            raise BundleError(
                f"its images take {readable_size(plan.size)}, and cache.maxSize is {readable_size(self._max_size)}: "
                "raise it, or import fewer"
            )
        missing = 0
        for digest, size in plan.sizes.items():
            missing += 0 if await self._is_stored(digest, size) else size
        obstacle = await self._store.evictor.fit(missing)
        if obstacle is Obstacle.PINNED:
            raise BundleError(f"there is no room for {readable_size(missing)} beside the pinned images. {PIN_ADVICE}")
        if obstacle is not None:
            raise BundleError(
                f"there is no room for {readable_size(missing)} within cache.maxSize and cache.reserveFree: "
                "run 'scope-proxy cache prune', or free space on the disk"
            )

    async def _is_stored(self, digest: Digest, size: int) -> bool:
        """Whether the store has it, which counts as a use: it is not evicted next."""
        return await self._store.stored_size(digest) == size

    async def _require(self, digest: Digest) -> None:
        if await self._store.stored_size(digest) is None:
            raise BundleError(
                f"{digest} was evicted again: cache.maxSize or the disk is too small for all that is stored meanwhile"
            )

    async def _store_one(self, digest: Digest, size: int, origins: Sequence[Origins]) -> None:
        """Store a digest, or note that R's endpoints have it too where it is stored; raises BundleError, StoreError."""
        if await self._is_stored(digest, size):
            await self._copy(digest, size, None)
        else:
            ingest = await self._begin(digest, origins[0])
            try:
                await self._copy(digest, size, ingest)
                await ingest.commit(origins[0])
            finally:
                await ingest.abort()  # nothing after a commit
                ingest.close()
        for each in origins:
            await self._store.blobs.provenance.record(digest, each)

    async def _begin(self, digest: Digest, origins: Origins) -> Ingest:
        """A part file that is empty; raises BundleError where another process downloads the digest now."""
        for _ in range(2):
            ingest = await self._store.blobs.begin(digest, origins)
            if ingest is None:
                raise BundleError(
                    f"{digest} is being downloaded by another process: import the bundle again after that"
                )
            if not ingest.size:
                return ingest
            await ingest.abort()  # what an interrupted download has left
            ingest.close()
        raise BundleError(f"{digest} is being written by another process: import the bundle again after that")

    async def _copy(self, digest: Digest, size: int, ingest: Ingest | None) -> None:
        """Read and verify the bytes of the bundle, and write them; raises BundleError, StoreError."""
        hasher, offset = digest.hasher(), 0
        while offset < size:
            data = await asyncio.to_thread(self._bundle.read, digest, offset, BATCH)
            if not data:
                raise BundleError("it became shorter while it was read")
            await asyncio.to_thread(hasher.update, data)
            if ingest is not None:
                await ingest.write(data)
            offset += len(data)
            self._advance(len(data))
        if hasher.hexdigest() != digest.hex:
            raise BundleError(f"the bytes of {digest} have another digest: the bundle is damaged, copy it again")

    async def _link(
        self, plan: ImportPlan, placed: PlacedImage, key: RepositoryKey, manifests: Sequence[Digest], now: float
    ) -> None:
        tags = self._store.tags
        for digest in manifests:
            await tags.link_manifest(key, digest, plan.manifests[digest][1])
            tags.touch(digest)
        if isinstance(placed.image.reference, Tag):
            entry = TagEntry(plan.manifests[placed.manifest.digest][0], now)
            await tags.set(key, placed.image.reference, entry)
        await tags.note_name(key, f"{placed.route.registry}/{placed.route.repository}")


def imported_images(plan: ImportPlan) -> Iterator[tuple[ImageReference, int]]:
    """The images of a plan, each with the bytes of its content."""
    for placed, manifests in plan.images:
        blobs = (held.digest for digest in manifests for held in plan.manifests[digest][1].blobs)
        yield placed.image, sum(plan.sizes[digest] for digest in {*manifests, *blobs})
