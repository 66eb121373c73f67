"""The application of a listener: responds to every request, logs it once and counts it once."""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import hdrs, web
from cachetools import LRUCache

from proxy.observe.log import ACCESS, REQUEST_ID, track_endpoint
from proxy.observe.metrics import (
    HTTP_ABORTED,
    HTTP_BYTES,
    HTTP_CONNECTIONS,
    HTTP_CONNECTIONS_REFUSED,
    HTTP_DURATION,
    HTTP_FIRST_BYTE,
    HTTP_IN_FLIGHT,
    HTTP_REQUESTS,
    Bound,
)
from proxy.observe.tracing import request_span
from proxy.oci.errors import NameInvalid, RegistryError
from proxy.oci.request import RegistryRequest, parse_request
from proxy.server.access_log import RequestLoop, log_request, note_error
from proxy.server.listener.connection import BODY_LIMIT, LINGER, ConnectionBounds, NodeServer
from proxy.server.listener.framing import (
    HEAD_LIMIT,
    BodyTooLarge,
    Malformed,
    NodeRequest,
    check_framing,
    error_of,
)
from proxy.server.listener.limits import InFlight, ProcessLimits
from proxy.server.pace import ReadRate
from proxy.server.record import ListenerSettings, RequestRecord
from proxy.server.refusals import Refusals, count_rejection
from proxy.server.respond import Responder, cut_reason
from proxy.transport.limits import CLIENT
from proxy.transport.redirect import note_via

TARGETS_CACHED = 4096
"""Parsed request targets that are kept."""
TARGET_LENGTH = 512
"""Maximum characters of a cached target: fits a name, a digest and `ns=`, and bounds the memory of the cache."""


class TargetCache:
    """Parses request targets. The result depends only on the method and the target, so it is cached."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[str, str], tuple[str, RegistryRequest]] = LRUCache(TARGETS_CACHED)

    def path(self, request: NodeRequest) -> str:
        """The percent-decoded path, for logs and for paths outside the distribution API."""
        known = self._known.get((request.method, request.raw_path))
        return request.path if known is None else known[0]

    def of(self, request: NodeRequest) -> RegistryRequest:
        """The parsed request; raises Unsupported, NameInvalid and DigestInvalid."""
        method, target = request.method, request.raw_path
        known = self._known.get((method, target))
        if known is None:
            parsed = parse_request(method, target.partition("?")[0], request.query.items())
            known = request.path, parsed
            if len(target) <= TARGET_LENGTH:
                self._known[method, target] = known
        if request.body_exists:
            raise NameInvalid("a pull must not have a body")
        return known[1]


_REQUEST_ID_DIGITS = 16
_REQUEST_IDS_DRAWN = 256
_AGENT_LIMIT = 200
NO_RESPONSE = 499
"""Status in the log of a request whose connection closed before the response, as in nginx."""

_REQUESTS, _BYTES, _IN_FLIGHT = Bound(HTTP_REQUESTS), Bound(HTTP_BYTES), Bound(HTTP_IN_FLIGHT)
_DURATIONS, _FIRST_BYTES = Bound(HTTP_DURATION), Bound(HTTP_FIRST_BYTE)
_ABORTED = Bound(HTTP_ABORTED)
_logger = logging.getLogger(ACCESS)
_request_ids: list[str] = []
os.register_at_fork(after_in_child=_request_ids.clear)  # else two workers would use the same ids


class RawHandler(Protocol):
    """Handles requests of any method for one path outside the distribution API."""

    async def __call__(
        self, request: web.BaseRequest, body: bytes, record: RequestRecord, responder: Responder, /
    ) -> web.StreamResponse:
        """The response to a request whose body has been read; raises RegistryError."""


class PullHandler(Protocol):
    """Handles requests under `/v2/`."""

    async def __call__(
        self, request: web.BaseRequest, pull: RegistryRequest, record: RequestRecord, responder: Responder, /
    ) -> web.StreamResponse:
        """The response to one request; raises RegistryError."""


@dataclass(frozen=True, slots=True)
class ListenerApp:
    """The handlers of a listener; `extra` maps other paths to their handlers."""

    handler: PullHandler
    extra: Mapping[str, RawHandler] = field(default_factory=dict)
    settings: ListenerSettings = field(default_factory=ListenerSettings)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Settings of a listener's application; times in seconds."""

    enter: Callable[[], AbstractContextManager[ListenerApp]]
    """Enters the current handlers for one request: a reload may replace them meanwhile."""
    limits: ProcessLimits
    in_flight: InFlight
    client_stall: float
    request_timeout: float
    read_rate: ReadRate
    refusals: Refusals = field(default_factory=Refusals)
    """Keeps errors for the status page."""
    linger: float = LINGER


def node_server(settings: NodeSettings) -> NodeServer:
    """The HTTP server of a listener."""
    bounds = ConnectionBounds(
        connections=settings.limits.connections,
        pending=settings.limits.pending,
        head_limit=HEAD_LIMIT,
        head_timeout=settings.request_timeout,
        stall=settings.client_stall,
        refused=HTTP_CONNECTIONS_REFUSED,
        open=HTTP_CONNECTIONS,
        linger=settings.linger,
    )
    return NodeServer(NodeApp(settings), bounds)


class NodeApp:
    """Responds to every request on the connections of a listener."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._targets = TargetCache()

    async def respond(self, request: NodeRequest) -> web.StreamResponse:
        """The response to a request."""
        headers = request.headers
        agent = headers.get(hdrs.USER_AGENT, "")[:_AGENT_LIMIT]
        record = RequestRecord(request.method, self._targets.path(request), request.remote or "", agent)
        record.has_login = hdrs.AUTHORIZATION in headers
        return await self._respond_recorded(request, record, None)

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        """The response to a malformed request."""
        return await self._respond_recorded(request, RequestRecord("-", "-", request.remote or "", ""), error_of(error))

    async def _respond_recorded(
        self, request: NodeRequest, record: RequestRecord, refusal: RegistryError | None
    ) -> web.StreamResponse:
        REQUEST_ID.set(_request_id())
        CLIENT.set(request.client)
        record.endpoint = track_endpoint()
        started = time.perf_counter()
        settings = self._settings
        responder = Responder(
            request,
            record,
            settings.client_stall,
            settings.limits.bodies,
            settings.in_flight,
            read_rate=settings.read_rate,
        )
        with request_span(request.headers, record.method) as traced:
            try:
                return await self._with_errors(request, record, responder, refusal)
            except asyncio.CancelledError:
                record.aborted = record.aborted or cut_reason(request, self._settings.in_flight)
                record.status = record.status or NO_RESPONSE
                raise
            finally:
                if traced is not None:
                    traced.annotate(
                        route=record.operation, registry=record.registry, status=record.status, cache=record.cache
                    )
                _finish(record, started, None if traced is None else traced.exemplar())
                if record.aborted:
                    self._settings.refusals.note_cut(record)

    async def _with_errors(
        self, request: NodeRequest, record: RequestRecord, responder: Responder, refusal: RegistryError | None
    ) -> web.StreamResponse:
        """The response; for an error, the error response."""
        try:
            if refusal is not None:
                raise refusal  # noqa: TRY301 - handled like all other errors
            return await self._handle(request, record, responder)
        except RegistryError as error:
            count_rejection(error)
            responder.close_after |= isinstance(error, Malformed)
            failure = error.with_traceback(None)  # the traceback and this frame refer to each other
        except Exception:
            _logger.exception("a bug: %s %s", record.method, record.path)
            failure = RegistryError("scope-proxy failed, see its log")
        if not responder.has_begun:
            note_error(failure, record)
            self._settings.refusals.note(failure, record)
        return await responder.error(failure, REQUEST_ID.get())

    async def _handle(self, request: NodeRequest, record: RequestRecord, responder: Responder) -> web.StreamResponse:
        responder.close_after = request.has_body  # the end of the body is not trusted
        requests = self._settings.limits.requests
        requests.enter(request.client)
        try:
            with self._settings.in_flight, self._settings.enter() as app:
                check_framing(request)
                return await self._dispatch(app, request, record, responder)
        finally:
            requests.leave(request.client)

    async def _dispatch(
        self, app: ListenerApp, request: NodeRequest, record: RequestRecord, responder: Responder
    ) -> web.StreamResponse:
        record.settings = app.settings
        extra = app.extra.get(record.path)
        if extra is not None:
            body = await self._body(request)
            responder.close_after = False
            return await extra(request, body, record, responder)
        pull = self._targets.of(request)
        if hdrs.VIA in request.headers and note_via(request.headers.getall(hdrs.VIA)):
            raise RequestLoop("request loop: an endpoint of the registry is this proxy")
        record.operation, record.pull = pull.operation, pull
        in_flight = _IN_FLIGHT[pull.operation,]
        in_flight.inc()
        try:
            return await app.handler(request, pull, record, responder)
        finally:
            in_flight.dec()

    async def _body(self, request: NodeRequest) -> bytes:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise BodyTooLarge(f"the request body is larger than {BODY_LIMIT} bytes") from None
        except TimeoutError:
            raise Malformed("timeout while reading the request body") from None
        except web.RequestPayloadError:
            raise Malformed("the request body is not valid HTTP/1.1") from None


def _request_id() -> str:
    """A random id. Many are generated at once, because each call of the random generator is a system call."""
    if not _request_ids:
        drawn = secrets.token_hex(_REQUEST_IDS_DRAWN * _REQUEST_ID_DIGITS // 2)
        _request_ids.extend(drawn[at : at + _REQUEST_ID_DIGITS] for at in range(0, len(drawn), _REQUEST_ID_DIGITS))
    return _request_ids.pop()


def _count(record: RequestRecord, started: float, seconds: float, exemplar: dict[str, str] | None) -> None:
    served = record.operation, record.cache
    _REQUESTS[record.operation, record.status].inc()
    _DURATIONS[served].observe(seconds, exemplar)
    _BYTES[served].inc(record.sent)
    if record.aborted:
        _ABORTED[record.aborted,].inc()
    if record.cache and record.first_byte:
        _FIRST_BYTES[served].observe(record.first_byte - started)


def _finish(record: RequestRecord, started: float, exemplar: dict[str, str] | None) -> None:
    """Count and log a request; `exemplar` links a metric to its trace."""
    seconds = time.perf_counter() - started
    _count(record, started, seconds, exemplar)
    log_request(record, seconds)
