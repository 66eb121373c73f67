"""Manifests without a store: each one from the upstream."""

from proxy.config.model import Timeouts
from proxy.oci.reference import Digest, Tag
from proxy.pull.manifest import Manifest
from proxy.pull.manifest_fetcher import Budget, ManifestFetcher
from proxy.routing.table import Route
from proxy.transport.clock import Deadline


class UncachedManifests:
    """Passes manifests through, verified."""

    def __init__(self, fetcher: ManifestFetcher, timeouts: Timeouts) -> None:
        self._fetcher = fetcher
        self._timeouts = timeouts

    async def get(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest with its bytes; raises RegistryError."""
        fetched = await self._fetcher.get(route, reference, accept, self._budget())
        return Manifest(fetched.descriptor, fetched.content)

    async def head(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest's descriptor; raises RegistryError."""
        fetched = await self._fetcher.head(route, reference, accept, self._budget())
        return Manifest(fetched.descriptor, None)

    def _budget(self) -> Budget:
        return Budget(Deadline.after(self._timeouts.manifest))
