"""Manifests and blobs without a store: each one from the upstream."""

from dataclasses import replace

from proxy.config.model import Timeouts
from proxy.observe.metrics import CACHE_REQUESTS, Bound
from proxy.oci.byterange import ByteRange
from proxy.oci.reference import Digest, Tag
from proxy.pull.blobs.live import Blob, BlobHead, CacheResult
from proxy.pull.blobs.passthrough import PassThrough
from proxy.pull.manifests.fetch import Budget, Manifest, ManifestFetcher
from proxy.routing.table import Route
from proxy.transport.clock import Deadline

_SERVED = Bound(CACHE_REQUESTS)


class UncachedManifests:
    """Passes manifests through, verified."""

    def __init__(self, fetcher: ManifestFetcher, timeouts: Timeouts) -> None:
        self._fetcher = fetcher
        self._timeouts = timeouts

    async def get(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest with its bytes; raises RegistryError."""
        return _served(reference, await self._fetcher.get(route, reference, accept, self._budget()))

    async def head(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest's descriptor; raises RegistryError."""
        fetched = await self._fetcher.head(route, reference, accept, self._budget())
        return _served(reference, replace(fetched, content=None))

    def _budget(self) -> Budget:
        return Budget(Deadline.after(self._timeouts.manifest))


class UncachedBlobs:
    """Passes blobs through."""

    def __init__(self, passthrough: PassThrough) -> None:
        self._passthrough = passthrough

    async def get(self, route: Route, digest: Digest, wanted_range: ByteRange | None) -> Blob:
        """The blob or a range of it, with its body still to come; raises RegistryError."""
        blob = await self._passthrough.get(route, digest, wanted_range)
        _SERVED["blob", blob.way].inc()
        return blob

    async def head(self, route: Route, digest: Digest) -> BlobHead:
        """The size of the blob in bytes; raises RegistryError."""
        return BlobHead(await self._passthrough.head(route, digest), CacheResult.BYPASS)


def _served(reference: Tag | Digest, manifest: Manifest) -> Manifest:
    _SERVED["tag" if isinstance(reference, Tag) else "manifest", manifest.way].inc()
    return manifest
