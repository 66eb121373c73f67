"""The handlers of `/v2/`: parse once, find the route, pull, answer."""

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
    """Where manifests come from, with a store or without."""

    async def get(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest with its bytes; raises RegistryError."""

    async def head(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest's descriptor; raises RegistryError."""


class BlobSource(Protocol):
    """Where blobs come from, with a store or without."""

    async def get(self, route: Route, digest: Digest, wanted_range: ByteRange | None) -> Blob:
        """The blob or a range of it; raises RegistryError."""

    async def head(self, route: Route, digest: Digest) -> BlobHead:
        """The size of the blob, and how it would be served; raises RegistryError."""


@dataclass(frozen=True, slots=True)
class Pulls:
    """All that answering needs, built once."""

    routes: RouteTable
    manifests: ManifestSource
    blobs: BlobSource
    listings: Listings
    rights: Rights
    access: AccessRules


class Handler:
    """Answers requests under `/v2/` of one listener."""

    def __init__(self, pulls: Pulls, clients: ClientCheck) -> None:
        self._pulls = pulls
        self._clients = clients

    async def __call__(
        self, request: web.BaseRequest, asked: RegistryRequest, record: RequestRecord, responder: Responder
    ) -> web.StreamResponse:
        """The answer to one request; raises RegistryError."""
        caller = await self._clients.identify(request, asked)
        record.user = caller.name
        if asked.operation is Operation.PING:
            return await responder.whole(b"{}", {"Content-Type": "application/json"})
        route = self._pulls.routes.resolve(asked.name, namespace=asked.namespace, host=request.headers.get("Host"))
        record.registry, record.repository, record.upstream = route.registry, route.repository, route.upstream
        record.decision = route
        _count_rewrites(route)
        route = route if caller is route.caller else replace(route, caller=caller)
        try:
            if self._pulls.access.has_rules:
                self._pulls.access.require(route, caller.name)
            if caller.bound is not None:
                self._clients.permit(route, asked)
            if caller.login is None:
                return await self._answer(request, asked, responder, route)
            return await self._admitted(request, asked, responder, route)
        except RegistryError as error:
            raise self._failed(request, asked, route, error) from None

    def _failed(
        self, request: web.BaseRequest, asked: RegistryRequest, route: Route, error: RegistryError
    ) -> RegistryError:
        """The error as this client is told of it, after what it means for its rights.

        It may come of a request that several clients wait for, or be remembered: each is told what it asked for itself.
        """
        own = error.about(asked_detail(route, asked.suffix)) if ASKED in error.detail else error
        if isinstance(own, Denied):
            if not isinstance(own, AccessDenied):  # which the upstream knows nothing of
                self._pulls.rights.revoke(route)
            return self._clients.refused(request, asked, own)
        # A limit of ours says nothing of the endpoint.
        if isinstance(own, UpstreamUnavailable | TooManyRequests) and not isinstance(own, LocalLimit | Overloaded):
            self._pulls.rights.doubt(route)
        return own

    async def _admitted(
        self, request: web.BaseRequest, asked: RegistryRequest, responder: Responder, route: Route
    ) -> web.StreamResponse:
        """The answer; what one endpoint does not have, where a client has a right, another one may have."""
        left = route
        while True:
            admitted = await self._pulls.rights.admit(left, asked)
            try:
                return await self._answer(request, asked, responder, admitted)
            except (ManifestUnknown, BlobUnknown):
                others = tuple(target for target in left.targets if target not in admitted.targets)
                if not others:
                    raise
                left = replace(left, targets=others)

    async def _answer(
        self, request: web.BaseRequest, asked: RegistryRequest, responder: Responder, route: Route
    ) -> web.StreamResponse:
        match asked.operation:
            case Operation.MANIFEST:
                return await self._manifest(request, responder, asked, route)
            case Operation.BLOB:
                return await self._blob(request, responder, asked, route)
            case _:
                return await self._listing(request, responder, asked, route)

    async def _manifest(
        self, request: web.BaseRequest, responder: Responder, asked: RegistryRequest, route: Route
    ) -> web.StreamResponse:
        if asked.reference is None:
            raise ManifestUnknown("the request names no manifest")
        # skopeo sends one Accept line for each type: all of them count.
        accept = ", ".join(request.headers.getall("Accept", [])) or None
        fetch = self._pulls.manifests.head if asked.head else self._pulls.manifests.get
        namespace = _namespace(asked, route)
        manifest = await fetch(route, asked.reference, accept)
        found = manifest.descriptor
        headers = {**namespace, **manifest_headers(manifest)}
        return await responder.whole(
            None if asked.head else manifest.content, headers, length=found.size, way=manifest.way
        )

    async def _blob(
        self, request: web.BaseRequest, responder: Responder, asked: RegistryRequest, route: Route
    ) -> web.StreamResponse:
        digest, namespace = asked.digest, _namespace(asked, route)
        if asked.head:
            found = await self._pulls.blobs.head(route, digest)
            return await responder.whole(None, {**blob_headers(digest.text, found), **namespace}, length=found.size)
        wanted = ByteRange.parse(request.headers.get("Range"))
        if request.headers.get("If-Range") not in (None, f'"{digest.text}"'):
            wanted = None  # the client has a part of something else
        async with await self._pulls.blobs.get(route, digest, wanted) as blob:
            return await responder.stream(blob, {**blob_headers(digest.text, blob), **namespace})

    async def _listing(
        self, request: web.BaseRequest, responder: Responder, asked: RegistryRequest, route: Route
    ) -> web.StreamResponse:
        listing = await self._list(asked, route)
        headers = {"Content-Type": listing.media_type, **listing.headers, **_namespace(asked, route)}
        if listing.next_query is not None:
            headers["Link"] = link_header(request.path, listing.next_query, asked.namespace)
        return await responder.whole(listing.content, headers)

    async def _list(self, asked: RegistryRequest, route: Route) -> Listing:
        if asked.operation is Operation.TAGS:
            return await self._pulls.listings.tags(route, asked.name, asked.query)
        return await self._pulls.listings.referrers(route, asked.digest, asked.query)


def _count_rewrites(route: Route) -> None:
    """Count the rules that have rewritten the repository: one, unless endpoints have rules of their own."""
    counted = None
    for target in route.targets:
        placed = target.rewriting.rule
        if placed is not None and placed is not counted:
            _REWRITES[route.upstream, placed.label].inc()
            counted = placed


def _namespace(asked: RegistryRequest, route: Route) -> dict[str, str]:
    """The specification's echo of `ns=`, where the node sent one."""
    return {} if asked.namespace is None else {NAMESPACE_HEADER: route.registry}
