"""The handler of `/v2/`: find the route, check the client's rights, pull, respond."""

from dataclasses import dataclass, replace
from typing import Protocol

from aiohttp import web

from proxy.observe.metrics import REWRITES, Bound
from proxy.oci.byterange import ByteRange
from proxy.oci.errors import BlobUnknown, Denied, ManifestUnknown, RegistryError, TooManyRequests, UpstreamUnavailable
from proxy.oci.reference import Digest, Tag
from proxy.oci.request import Operation, RegistryRequest
from proxy.pull.blobs.live import Blob, BlobHead
from proxy.pull.listing import Listing, Listings, link_header
from proxy.pull.manifests.fetch import Manifest
from proxy.pull.rights import Rights
from proxy.routing.access import AccessDenied, AccessRules
from proxy.routing.table import Route, RouteTable
from proxy.server.clients.checks import ClientCheck
from proxy.server.listener.held_bodies import Overloaded
from proxy.server.record import RequestRecord
from proxy.server.respond import Responder, blob_headers, manifest_headers
from proxy.upstream.errors import ASKED, LocalLimit, asked_detail

NAMESPACE_HEADER = "OCI-Namespace"

_REWRITES = Bound(REWRITES)


class ManifestSource(Protocol):
    """Source of manifests, with or without a store."""

    async def get(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest with its bytes; raises RegistryError."""

    async def head(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest's descriptor; raises RegistryError."""


class BlobSource(Protocol):
    """Source of blobs, with or without a store."""

    async def get(self, route: Route, digest: Digest, wanted_range: ByteRange | None) -> Blob:
        """The blob or a range of it; raises RegistryError."""

    async def head(self, route: Route, digest: Digest) -> BlobHead:
        """The size of the blob, and how it would be served; raises RegistryError."""


@dataclass(frozen=True, slots=True)
class Pulls:
    """What the handlers need, built once per configuration."""

    routes: RouteTable
    manifests: ManifestSource
    blobs: BlobSource
    listings: Listings
    rights: Rights
    access: AccessRules


class Handler:
    """Handles requests under `/v2/` of one listener."""

    def __init__(self, pulls: Pulls, clients: ClientCheck) -> None:
        self._pulls = pulls
        self._clients = clients

    async def __call__(
        self, request: web.BaseRequest, pull: RegistryRequest, record: RequestRecord, responder: Responder
    ) -> web.StreamResponse:
        """The response to one request; raises RegistryError."""
        caller = await self._clients.identify(request, pull)
        record.user, record.auth = caller.name, caller.method
        if pull.operation is Operation.PING:
            return await responder.whole(b"{}", {"Content-Type": "application/json"})
        route = self._pulls.routes.resolve(pull.name, namespace=pull.namespace, host=request.headers.get("Host"))
        record.registry, record.repository, record.upstream = route.registry, route.repository, route.upstream
        record.route = route
        _count_rewrites(route)
        route = route if caller is route.caller else replace(route, caller=caller)
        try:
            if self._pulls.access.has_rules:
                record.access = self._pulls.access.check(route, caller.name)
                self._pulls.access.require(route, caller.name)
            if caller.bound is not None:
                self._clients.permit(route, pull)
            if caller.login is None:
                return await self._respond(request, pull, responder, route)
            return await self._respond_admitted(request, pull, responder, route)
        except RegistryError as error:
            raise self._error_for(request, pull, route, error) from None

    def _error_for(
        self, request: web.BaseRequest, pull: RegistryRequest, route: Route, error: RegistryError
    ) -> RegistryError:
        """The error for this client; updates the client's rights first.

        The error may come from a request that several clients share, or from a cache: its detail is set to what this
        client requested.
        """
        own = error.about(asked_detail(route, pull.suffix)) if ASKED in error.detail else error
        if isinstance(own, Denied):
            if not isinstance(own, AccessDenied):  # our rule, not a refusal of the upstream
                self._pulls.rights.revoke(route)
            return self._clients.client_error(request, pull, own)
        # A limit of scope-proxy is no evidence about the endpoint.
        if isinstance(own, UpstreamUnavailable | TooManyRequests) and not isinstance(own, LocalLimit | Overloaded):
            self._pulls.rights.doubt(route)
        return own

    async def _respond_admitted(
        self, request: web.BaseRequest, pull: RegistryRequest, responder: Responder, route: Route
    ) -> web.StreamResponse:
        """The response; if content is missing at the admitted endpoint, the remaining endpoints are tried."""
        remaining = route
        while True:
            admitted = await self._pulls.rights.admit(remaining, pull)
            try:
                return await self._respond(request, pull, responder, admitted)
            except (ManifestUnknown, BlobUnknown):
                others = tuple(target for target in remaining.targets if target not in admitted.targets)
                if not others:
                    raise
                remaining = replace(remaining, targets=others)

    async def _respond(
        self, request: web.BaseRequest, pull: RegistryRequest, responder: Responder, route: Route
    ) -> web.StreamResponse:
        match pull.operation:
            case Operation.MANIFEST:
                return await self._manifest(request, responder, pull, route)
            case Operation.BLOB:
                return await self._blob(request, responder, pull, route)
            case _:
                return await self._listing(request, responder, pull, route)

    async def _manifest(
        self, request: web.BaseRequest, responder: Responder, pull: RegistryRequest, route: Route
    ) -> web.StreamResponse:
        if pull.reference is None:
            raise ManifestUnknown("the request names no tag or digest")
        # skopeo sends one Accept line per type.
        accept = ", ".join(request.headers.getall("Accept", [])) or None
        fetch = self._pulls.manifests.head if pull.head else self._pulls.manifests.get
        namespace = _namespace(pull, route)
        manifest = await fetch(route, pull.reference, accept)
        descriptor = manifest.descriptor
        headers = {**namespace, **manifest_headers(manifest)}
        return await responder.whole(
            None if pull.head else manifest.content, headers, length=descriptor.size, result=manifest.way
        )

    async def _blob(
        self, request: web.BaseRequest, responder: Responder, pull: RegistryRequest, route: Route
    ) -> web.StreamResponse:
        digest, namespace = pull.digest, _namespace(pull, route)
        if pull.head:
            found = await self._pulls.blobs.head(route, digest)
            return await responder.whole(None, {**blob_headers(digest.text, found), **namespace}, length=found.size)
        wanted = ByteRange.parse(request.headers.get("Range"))
        if request.headers.get("If-Range") not in (None, f'"{digest.text}"'):
            wanted = None  # the client has part of other content
        async with await self._pulls.blobs.get(route, digest, wanted) as blob:
            return await responder.stream(blob, {**blob_headers(digest.text, blob), **namespace})

    async def _listing(
        self, request: web.BaseRequest, responder: Responder, pull: RegistryRequest, route: Route
    ) -> web.StreamResponse:
        listing = await self._list(pull, route)
        headers = {"Content-Type": listing.media_type, **listing.headers, **_namespace(pull, route)}
        if listing.next_query is not None:
            headers["Link"] = link_header(request.path, listing.next_query, pull.namespace)
        return await responder.whole(listing.content, headers)

    async def _list(self, pull: RegistryRequest, route: Route) -> Listing:
        if pull.operation is Operation.TAGS:
            return await self._pulls.listings.tags(route, pull.name, pull.query)
        return await self._pulls.listings.referrers(route, pull.digest, pull.query)


def _count_rewrites(route: Route) -> None:
    """Count the rules that rewrote the repository: one, unless endpoints have their own rules."""
    counted = None
    for target in route.targets:
        placed = target.rewriting.rule
        if placed is not None and placed is not counted:
            _REWRITES[route.upstream, placed.label].inc()
            counted = placed


def _namespace(pull: RegistryRequest, route: Route) -> dict[str, str]:
    """The OCI-Namespace header, if the node sent `ns=`."""
    return {} if pull.namespace is None else {NAMESPACE_HEADER: route.registry}
