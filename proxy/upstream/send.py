"""One request to one endpoint, within the host's limit; sent once more where no response comes."""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from yarl import URL

from proxy.observe.log import REQUEST_ID
from proxy.observe.metrics import UPSTREAM_BYTES, UPSTREAM_RETRIES, Bound
from proxy.observe.tracing import outgoing_context
from proxy.oci.byterange import ByteRange
from proxy.oci.login import ANONYMOUS, Login
from proxy.oci.request import NAMESPACE, Operation
from proxy.routing.table import Route, Target
from proxy.transport.limits import CountedHostLimit, HostPlace, Size
from proxy.transport.redirect import Followed, follow, via
from proxy.transport.response import HttpResponse
from proxy.transport.retry import hedged
from proxy.transport.session import Outgoing, Sessions
from proxy.upstream.errors import Waiting, Wrong

FIRST_BYTE = ByteRange(0, 0)
REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""Statuses after which another authorization may help."""

_BYTES = Bound(UPSTREAM_BYTES)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What is requested of a repository: `suffix` follows its name in the URL."""

    operation: Operation
    suffix: str
    method: str = "GET"
    accept: str | None = None
    range: ByteRange | None = None
    query: tuple[tuple[str, str], ...] = ()
    etag: str | None = None
    """What is known already: then 304 is a good answer."""

    @property
    def size(self) -> Size:
        """How much it moves: bodies of blobs are large, but not the one byte that is requested in place of a HEAD."""
        is_body = self.operation is Operation.BLOB and self.method == "GET"
        return Size.LARGE if is_body and self.range != FIRST_BYTE else Size.SMALL


@dataclass(slots=True)
class EndpointRequest:
    """What is requested of one endpoint; whoever sends it on may change how."""

    route: Route
    target: Target
    wanted: UpstreamRequest
    patience: float | None = None
    """Seconds without a response after which it is sent once more."""
    authorization: str | None = field(default=None, repr=False)
    waits_for: Waiting = Waiting.TOKEN


class UpstreamResponse(HttpResponse):
    """A response of an endpoint."""

    def __init__(self, followed: Followed, request: EndpointRequest, place: HostPlace) -> None:
        self.target = request.target
        self.upstream = request.route.upstream
        self.login: Login = ANONYMOUS
        """The credential that the request was authorized by."""
        self.expires_at = math.inf
        """Until when what the request was authorized by is valid, on the monotonic clock."""
        super().__init__(followed.response, elsewhere=followed.elsewhere, place=place, received=_BYTES[self.upstream,])

    @asynccontextmanager
    async def whole(self, limit: int, what: str) -> AsyncIterator[bytes]:
        """Read the whole body, and close the response, for a block that finds out what it is.

        Raises Wrong where it has more than `limit` bytes, and QueueFull where too many large ones wait.
        """
        async with AsyncExitStack() as stack:
            body = await self._read(limit, stack)
            if len(body) > limit:
                raise Wrong(f"{self.target.endpoint.origin.authority} sent a {what} of more than {limit} bytes")
            self.close()
            yield body


class RequestSender(Protocol):
    """Sends requests to endpoints; each one may wrap another and add one concern to it."""

    async def send(self, request: EndpointRequest) -> UpstreamResponse:
        """The response, whose body is still to come."""


class PlacedSender:
    """Sends each request in its turn at the host, and once more where no response comes."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def send(self, request: EndpointRequest) -> UpstreamResponse:
        """The response at the end of the redirects; raises what `follow` raises, and QueueFull."""
        request.waits_for = Waiting.PLACE
        size = request.wanted.size
        limit = CountedHostLimit(self._sessions.host_limit(request.target.endpoint.origin), request.route.upstream)
        place = await limit.acquire(size)
        request.waits_for = Waiting.ANSWER
        try:
            followed = await self._followed(request, limit)
        except BaseException:
            place.release()
            raise
        response = UpstreamResponse(followed, request, place)
        if response.status in REFUSALS:
            # A token may be needed now, and its request wants a place of its own: holding two could block for good.
            response.release_place()
            request.waits_for = Waiting.TOKEN
        return response

    async def _followed(self, request: EndpointRequest, limit: CountedHostLimit) -> Followed:
        """The response to the request, or where that takes longer than the patience, to a second one."""
        outgoing = _outgoing(request)
        if request.patience is None:
            return await follow(self._sessions, outgoing)
        return await hedged(
            lambda: follow(self._sessions, outgoing),
            lambda: self._once_more(request, outgoing, limit),
            request.patience,
            discard=lambda late: late.response.close(),
        )

    async def _once_more(self, request: EndpointRequest, outgoing: Outgoing, limit: CountedHostLimit) -> Followed:
        """Send the request a second time; the response stays open, at the place of the first one."""
        async with limit.admitted(request.wanted.size):
            host = request.target.endpoint.origin.authority
            _logger.info("%s has not answered for %g s: the request is sent once more", host, request.patience)
            UPSTREAM_RETRIES.labels(request.route.upstream).inc()
            return await follow(self._sessions, outgoing)


def _outgoing(request: EndpointRequest) -> Outgoing:
    wanted, target = request.wanted, request.target
    query = (*wanted.query, *(((NAMESPACE, target.namespace),) if target.namespace else ()))
    headers = {"X-Request-Id": REQUEST_ID.get(), "Via": via(), **outgoing_context()}
    if wanted.accept is not None:
        headers["Accept"] = wanted.accept
    if wanted.range is not None:
        headers["Range"] = str(wanted.range)
    if wanted.etag is not None:
        headers["If-None-Match"] = wanted.etag
    if request.authorization is not None:
        headers["Authorization"] = request.authorization
    url = URL(target.url_prefix + wanted.suffix, encoded=True).with_query(list(query))
    label = (request.route.upstream, wanted.operation.value)
    return Outgoing(wanted.method, url, target.endpoint.origin, headers, label)
