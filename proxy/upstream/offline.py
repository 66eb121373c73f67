"""`cache.offline`: nothing is requested of any upstream, and what is not stored is not found."""

from typing import NoReturn

from proxy.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, RegistryError, UpstreamUnavailable
from proxy.oci.request import Operation
from proxy.routing.table import Route
from proxy.upstream.send import EndpointRequest

ADVICE = "scope-proxy cache import BUNDLE --registry REGISTRY"
RETRY_SECONDS = 5.0
"""After which a node may try again when the cache could not be read."""

_UNKNOWN: dict[Operation, type[RegistryError]] = {
    Operation.MANIFEST: ManifestUnknown,
    Operation.BLOB: BlobUnknown,
    Operation.TAGS: NameUnknown,
    Operation.REFERRERS: ManifestUnknown,
}


def not_cached(route: Route, operation: Operation, suffix: str) -> RegistryError:
    """The 404 for what is not stored."""
    image = f"{route.registry}/{route.repository}"
    reason = f"offline: {image} {suffix} is not in the cache"
    return _UNKNOWN.get(operation, NameUnknown)(reason, detail={"hint": ADVICE})


def unreadable(route: Route, suffix: str, cause: object) -> UpstreamUnavailable:
    """The 503 for what may be stored: the cache cannot be read now."""
    image = f"{route.registry}/{route.repository}"
    detail = {"hint": "scope-proxy check reports whether the cache can be used"}
    reason = f"offline: the cache cannot serve {image} {suffix} now: {cause}"
    return UpstreamUnavailable(reason, detail=detail, retry_after=RETRY_SECONDS)


class OfflineSender:
    """Stands where requests would leave: it has no sessions, and refuses every request."""

    async def send(self, request: EndpointRequest) -> NoReturn:
        """Raise what `not_cached` gives."""
        raise not_cached(request.route, request.wanted.operation, request.wanted.suffix)
