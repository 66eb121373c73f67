"""Requests to the endpoints of a route: fail-over, rounds of attempts, and what a response means."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from types import TracebackType

from cachetools import LRUCache

from proxy.observe.log import note_endpoint
from proxy.observe.metrics import (
    UPSTREAM_ERRORS,
    UPSTREAM_LAST_SUCCESS,
    UPSTREAM_RATE_LIMITED,
    UPSTREAM_RETRIES,
    UPSTREAM_UP,
    Bound,
)
from proxy.observe.tracing import span
from proxy.oci.errors import RangeInvalid, RegistryError
from proxy.oci.request import Operation
from proxy.routing.table import Route, Target
from proxy.transport.clock import Deadline, UpstreamTime, measured
from proxy.transport.retry import ROUNDS, parse_retry_after, pause_before
from proxy.upstream.endpoints import Endpoints
from proxy.upstream.errors import (
    TROUBLE,
    EndpointFailure,
    Failed,
    NotThere,
    Refused,
    Spent,
    Unavailable,
    Waiting,
    Wrong,
    translate,
    verdict,
)
from proxy.upstream.send import FIRST_BYTE, EndpointRequest, RequestSender, UpstreamRequest, UpstreamResponse

_NO_HEAD = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
REFUSED_HEAD = _NO_HEAD | {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
"""What an object store answers to a HEAD of a URL that was signed for GET, and a registry without HEAD."""

_NO_REFERRERS = _NO_HEAD | {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_ACCEPTABLE}
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
"""4xx that say nothing about the request itself: request timeout, too early."""
CLIENTS_LIMIT = 4096
"""Most clients with credentials of their own of which is known how endpoints serve them."""
_REST_SLACK = 0.02
_LONGEST_NUMBER = 20
_UP, _LAST_SUCCESS = Bound(UPSTREAM_UP), Bound(UPSTREAM_LAST_SUCCESS)
_logger = logging.getLogger(__name__)


class UpstreamClient:
    """Sends requests to the endpoints of a route."""

    def __init__(
        self, sender: RequestSender, endpoints: Endpoints, pause: Callable[[int], float] = pause_before
    ) -> None:
        self._sender = sender
        self._endpoints = endpoints
        self.pause = pause
        """Seconds before a further round of attempts."""
        self._client_endpoints: LRUCache[str, Endpoints] = LRUCache(CLIENTS_LIMIT)

    def responses(
        self, route: Route, wanted: UpstreamRequest, deadline: Deadline, *, patience: float | None = None
    ) -> "Responses":
        """The good responses of the endpoints, one after another, until one is used without an error.

        Use: `responses = client.responses(...)`, then `while True: async with await responses.next() as response:` and
        `return` or `break` at the end of the block. A block that is left so owns the response, and closes it.

        The endpoints share the time that is left, or where that is long the `patience` (seconds), so that one which
        hangs does not use up all; the last one has the rest, and is sent the request once more when it has not
        answered for as long: its response may be lost. Patience also bounds the wait for an endpoint that sent a
        Retry-After.
        """
        return Responses(self, route, wanted, deadline, patience)

    def order(self, route: Route) -> list[Target]:
        """The targets in the order in which they are tried: those that work, and work for this client, first."""
        return self._endpoints.order(self._book(route).order(route.targets))

    @asynccontextmanager
    async def attempt(self, request: EndpointRequest, share: Deadline) -> AsyncIterator[UpstreamResponse]:
        """A good response of one endpoint, used within its share of the time.

        Raises EndpointFailure or RegistryError; notes how the endpoint did.
        """
        route, target, host = request.route, request.target, request.target.endpoint.origin.authority
        books = self._books(route)
        rest = max(book.rest(target) for book in books)
        if rest > 0:
            reason = f"{host} limits requests: none is sent for {rest:.0f} s"
            raise Unavailable(reason, retry_after=rest, limited=True)
        note_endpoint(target.endpoint.text)
        seconds = share.remaining
        scope = asyncio.timeout(seconds)
        with measured() as time:
            try:
                with span("upstream", upstream=route.upstream, host=host, op=request.wanted.operation):
                    async with scope:
                        response = await self._send(request)
                        request.waits_for = Waiting.BODY
                        try:
                            yield response
                        except BaseException:
                            response.close()
                            raise
            except TROUBLE as error:
                spent = _spent(request, time, seconds) if scope.expired() else None
                failure, reason = translate(error, target, spent=spent)
                UPSTREAM_ERRORS.labels(route.upstream, reason).inc()
                if request.waits_for is Waiting.TOKEN:  # which may be late for this account alone
                    self._note_account_failure(route, target, failure)
                elif reason != "overload":  # that is our own limit, no fault of the endpoint
                    self._note_failure(route, target, failure)
                # A broken stream keeps its error, whose frames would keep the response, what was read, and the stream.
                raise failure from error.with_traceback(None)
            except NotThere:
                self._endpoints.succeeded(target)
                _note_answer(route)
                raise
            except EndpointFailure as failure:
                self._note_account_failure(route, target, failure)
                raise
        for book in books:
            book.succeeded(target)
        _note_answer(route)

    async def _send(self, request: EndpointRequest) -> UpstreamResponse:
        """A good response; where a HEAD is refused, a GET takes its place."""
        response = await self._sender.send(request)
        if _is_refused_head(request.wanted, response):
            response.abort()
            request.wanted = _as_get(request.wanted)
            response = await self._sender.send(request)
        await _classify(request, response)
        return response

    def _book(self, route: Route) -> Endpoints:
        """What is known of endpoints for this client: its limits, and its account's failures, are its own."""
        if route.caller.login is None:
            return self._endpoints
        book: Endpoints | None = self._client_endpoints.get(route.caller.identity)
        if book is None:
            book = self._client_endpoints[route.caller.identity] = self._endpoints.for_client()
        return book

    def _books(self, route: Route) -> set[Endpoints]:
        """Those that tell whether an endpoint is tried for this client."""
        return {self._endpoints, self._book(route)}

    def _note_account_failure(self, route: Route, target: Target, failure: EndpointFailure) -> None:
        """An endpoint, or its token server, has failed for the account of the request, or got no request."""
        if isinstance(failure, Unavailable) and failure.local:
            return
        if route.caller.login is None:
            self._note_failure(route, target, failure)
        elif isinstance(failure, Unavailable):
            self._book(route).failed(target, str(failure), failure.retry_after)

    def _note_failure(self, route: Route, target: Target, failure: EndpointFailure) -> None:
        if not isinstance(failure, Unavailable):
            self._endpoints.refused(target, str(failure))
            return
        self._endpoints.failed(target, str(failure), failure.retry_after)
        if self._endpoints.are_down(route.upstream, route.targets):
            _UP[route.upstream,].set(0)


class Responses:
    """The good responses of a route's endpoints: fail-over and rounds of attempts."""

    def __init__(
        self, client: UpstreamClient, route: Route, wanted: UpstreamRequest, deadline: Deadline, patience: float | None
    ) -> None:
        self._client = client
        self._route = route
        self._wanted = wanted
        self._deadline = deadline
        self._patience = patience
        self._waiting = deadline if patience is None else Deadline.after(min(deadline.remaining, patience))
        self._round = 1
        self._pending = client.order(route)
        self._failed: list[Failed] = []
        self._settled: list[Failed] = []

    async def next(self) -> "ResponseAttempt":
        """The next good response; raises RegistryError for the node where no endpoint has one.

        An EndpointFailure that its block raises, or a failure of the connection, is the endpoint's: the block ends
        without an error, and `next` tries the endpoint after it.
        """
        while True:
            if not self._pending:
                await self._begin_round()
            if self._failed or self._round > 1:
                UPSTREAM_RETRIES.labels(self._route.upstream).inc()
            share = _share(self._deadline, len(self._pending), self._patience)
            target = self._pending.pop(0)
            attempt = self._client.attempt(EndpointRequest(self._route, target, self._wanted, self._patience), share)
            try:
                response = await attempt.__aenter__()
            except EndpointFailure as failure:
                self.note(target, failure)
            else:
                return ResponseAttempt(self, attempt, response)

    def note(self, target: Target, failure: EndpointFailure) -> None:
        """An attempt has failed; the failure is kept without the frames that it came through: they hold this object."""
        failure.__cause__ = failure.__context__ = None
        self._failed.append(Failed(target, failure.with_traceback(None)))
        # As text, as whatever keeps the log record would keep the failure.
        _logger.info("%s %s: %s", self._wanted.method, target.url(self._wanted.suffix), str(failure))

    async def _begin_round(self) -> None:
        """Wait until the unavailable endpoints are tried again; raises RegistryError where nothing would change."""
        self._settled += [item for item in self._failed if not isinstance(item.failure, Unavailable)]
        unavailable = [item for item in self._failed if isinstance(item.failure, Unavailable)]
        pause = _pause(unavailable, self._client.pause(self._round))
        if self._round == ROUNDS or pause is None or pause >= self._waiting.remaining:
            raise verdict(self._route, self._wanted.operation, self._wanted.suffix, [*unavailable, *self._settled])
        await asyncio.sleep(pause + _REST_SLACK)
        self._pending, self._failed = [item.target for item in unavailable], []
        self._round += 1


class ResponseAttempt:
    """A response in use: a failure in its block is noted, and the block ends without an error."""

    __slots__ = ("_attempt", "_response", "_responses")

    def __init__(
        self, responses: Responses, attempt: AbstractAsyncContextManager[UpstreamResponse], response: UpstreamResponse
    ) -> None:
        self._responses = responses
        self._attempt = attempt
        self._response = response

    async def __aenter__(self) -> UpstreamResponse:
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            await self._attempt.__aexit__(kind, error, traceback)
        except EndpointFailure as failure:
            error = failure
        if not isinstance(error, EndpointFailure):
            return False
        self._responses.note(self._response.target, error)
        return True


def _note_answer(route: Route) -> None:
    """The upstream has answered as it should."""
    _UP[route.upstream,].set(1)
    _LAST_SUCCESS[route.upstream,].set(time.time())


def _spent(request: EndpointRequest, time: UpstreamTime, seconds: float) -> Spent:
    """Where the time of a request went that has none left."""
    return Spent(request.waits_for, request.waits_for is Waiting.PLACE or time.is_short_of(seconds))


def _share(deadline: Deadline, left: int, patience: float | None) -> Deadline:
    """The next endpoint's share of the time, with so many endpoints left."""
    if left == 1:
        return deadline
    waiting = deadline.remaining if patience is None else min(deadline.remaining, patience)
    return Deadline.after(waiting / left)


def _as_get(wanted: UpstreamRequest) -> UpstreamRequest:
    first_byte = FIRST_BYTE if wanted.operation is Operation.BLOB else None
    return UpstreamRequest(wanted.operation, wanted.suffix, "GET", wanted.accept, first_byte, wanted.query)


def _is_refused_head(wanted: UpstreamRequest, response: UpstreamResponse) -> bool:
    status = response.status
    return wanted.method == "HEAD" and (status in _NO_HEAD or (response.elsewhere and status in REFUSED_HEAD))


def _pause(unavailable: list[Failed], usual: float) -> float | None:
    """Seconds until a new attempt is worthwhile; None where nothing would change."""
    pauses = [
        usual if item.failure.retry_after is None else item.failure.retry_after
        for item in unavailable
        if isinstance(item.failure, Unavailable) and not (item.failure.timeout or item.failure.lasting)
    ]
    return min(pauses, default=None)


async def _classify(request: EndpointRequest, response: UpstreamResponse) -> None:
    """Accept a good response, and raise what any other one means."""
    wanted, status = request.wanted, response.status
    if status == HTTPStatus.NOT_MODIFIED and wanted.etag is not None:
        return
    if status == HTTPStatus.OK or (status == HTTPStatus.PARTIAL_CONTENT and wanted.range is not None):
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            response.abort()
            host = request.target.endpoint.origin.authority
            raise Wrong(f"{host} sent {wanted.suffix} in Content-Encoding {encoding[:20]}, which was not requested")
        return
    await response.read_error()
    raise _meaning(request, response)


def _meaning(request: EndpointRequest, response: UpstreamResponse) -> EndpointFailure | RegistryError:
    wanted, target, status = request.wanted, request.target, response.status
    host = target.endpoint.origin.authority
    # An object store speaks for itself: its Retry-After does not bind the registry.
    retry_after = None if response.elsewhere else parse_retry_after(response.headers.get("Retry-After"))
    what = f"the object store of {host} answered {status}" if response.elsewhere else f"{host} answered {status}"
    match status:
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return NotThere(f"{host} does not have {target.repository} {wanted.suffix}")
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE if wanted.range is not None:
            size = response.headers.get("Content-Range", "").rpartition("/")[2]
            is_known = size.isdecimal() and len(size) < _LONGEST_NUMBER
            return RangeInvalid("the range lies outside the blob", size=int(size) if is_known else None)
        case HTTPStatus.TOO_MANY_REQUESTS:
            UPSTREAM_RATE_LIMITED.labels(request.route.upstream).inc()
            return Unavailable(f"{host} answered 429: too many requests", retry_after=retry_after, limited=True)
        case _ if wanted.operation is Operation.REFERRERS and status in _NO_REFERRERS:
            return NotThere(f"{host} does not list referrers")
        case _ if _is_client_error(status) and status not in _PASSING and not response.elsewhere:
            return Refused(what)
        case _:
            return Unavailable(what, retry_after=retry_after)


def _is_client_error(status: int) -> bool:
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
