"""`cache.offline`: nothing is requested of any upstream, and what is not stored is not found."""

from typing import NoReturn

from proxy.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, RegistryError, UpstreamUnavailable
from proxy.oci.request import Operation
from proxy.routing.table import Route
from proxy.upstream.send import EndpointRequest

ADVICE = "scope-proxy cache import BUNDLE --registry REGISTRY"
RETRY_SECONDS = 5.0
"""After which a node may try again when the cache could not be read."""


class NotCached(RegistryError):
    """The cache does not have it, and no upstream gets a request."""


class ManifestNotCached(ManifestUnknown, NotCached):
    """A manifest, or a list of its referrers."""


class BlobNotCached(BlobUnknown, NotCached):
    """A blob."""


class NameNotCached(NameUnknown, NotCached):
    """A tag list."""


class CacheUnreadable(UpstreamUnavailable):
    """The cache may have it, and cannot be read now."""


_NOT_CACHED: dict[Operation, type[RegistryError]] = {
    Operation.MANIFEST: ManifestNotCached,
    Operation.REFERRERS: ManifestNotCached,
    Operation.BLOB: BlobNotCached,
}


def not_cached(route: Route, operation: Operation, suffix: str) -> RegistryError:
    """The 404 for what is not stored."""
    image = f"{route.registry}/{route.repository}"
    reason = f"offline: {image} {suffix} is not in the cache"
    return _NOT_CACHED.get(operation, NameNotCached)(reason, detail={"hint": ADVICE})


def unreadable(route: Route, suffix: str, cause: object) -> CacheUnreadable:
    """The 503 for what may be stored: the cache cannot be read now."""
    image = f"{route.registry}/{route.repository}"
    detail = {"hint": "scope-proxy check reports whether the cache can be used"}
    reason = f"offline: the cache cannot serve {image} {suffix} now: {cause}"
    return CacheUnreadable(reason, detail=detail, retry_after=RETRY_SECONDS)


class OfflineSender:
    """Takes the place of what sends requests: it has no sessions, and refuses every request."""

    async def send(self, request: EndpointRequest) -> NoReturn:
        """Raise what `not_cached` gives."""
        raise not_cached(request.route, request.wanted.operation, request.wanted.suffix)
