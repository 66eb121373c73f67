"""The application that nodes talk to: every request passes here, is answered, logged once and counted once."""

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

from proxy.observe.log import ACCESS, REQUEST_ID, AccessRecord
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
from proxy.oci.errors import Denied, NameInvalid, RegistryError
from proxy.oci.request import RegistryRequest, parse_request
from proxy.server.listener.connection import BODY_LIMIT, ConnectionBounds, NodeServer
from proxy.server.listener.framing import (
    HEAD_LIMIT,
    BodyTooLarge,
    Malformed,
    NodeRequest,
    check_framing,
    error_of,
)
from proxy.server.listener.limits import Activity, Gates
from proxy.server.pace import ReadRate
from proxy.server.record import RequestRecord
from proxy.server.refusals import Refusals, count_rejection
from proxy.server.respond import Responder, reason_of_end
from proxy.transport.limits import CLIENT
from proxy.transport.redirect import note_via

REMEMBERED = 4096
"""Targets whose meaning is remembered."""
TARGET_REMEMBERED = 512
"""Characters of the longest target that is: a name, a digest and `ns=` fit, and all of them have a bound together."""


class Asked:
    """Reads targets; what comes of one depends on nothing but itself and the method, so it is remembered."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[str, str], tuple[str, RegistryRequest]] = LRUCache(REMEMBERED)

    def path(self, request: NodeRequest) -> str:
        """The path that is asked for, percent signs decoded; for people and for what is no part of the API."""
        known = self._known.get((request.method, request.raw_path))
        return request.path if known is None else known[0]

    def of(self, request: NodeRequest) -> RegistryRequest:
        """What is asked; raises Unsupported, NameInvalid and DigestInvalid."""
        method, target = request.method, request.raw_path
        known = self._known.get((method, target))
        if known is None:
            asked = parse_request(method, target.partition("?")[0], request.query.items())
            known = request.path, asked
            if len(target) <= TARGET_REMEMBERED:
                self._known[method, target] = known
        if request.body_exists:
            raise NameInvalid("a pull has no body")
        return known[1]


_REQUEST_ID_DIGITS = 16
_REQUEST_IDS_DRAWN = 256
_AGENT_LIMIT = 200
NO_ANSWER = 499
"""Stands for the status of a request whose connection ended before there was an answer, as in nginx's logs."""

_REQUESTS, _BYTES, _IN_FLIGHT = Bound(HTTP_REQUESTS), Bound(HTTP_BYTES), Bound(HTTP_IN_FLIGHT)
_DURATIONS, _FIRST_BYTES = Bound(HTTP_DURATION), Bound(HTTP_FIRST_BYTE)
_ABORTED = Bound(HTTP_ABORTED)
_logger = logging.getLogger(ACCESS)
_request_ids: list[str] = []
os.register_at_fork(after_in_child=_request_ids.clear)  # or two workers would use the same ones


class RawHandler(Protocol):
    """Answers the requests for one path outside the distribution API, whatever their method."""

    async def __call__(
        self, request: web.BaseRequest, body: bytes, record: RequestRecord, responder: Responder, /
    ) -> web.StreamResponse:
        """The answer to one request, whose body has been read; raises RegistryError."""


class PullHandler(Protocol):
    """Answers requests under `/v2/`."""

    async def __call__(
        self, request: web.BaseRequest, asked: RegistryRequest, record: RequestRecord, responder: Responder, /
    ) -> web.StreamResponse:
        """The answer to one request; raises RegistryError."""


@dataclass(frozen=True, slots=True)
class Door:
    """Who answers at a listener; `extra` has handlers by the path that they are for."""

    handler: PullHandler
    extra: Mapping[str, RawHandler] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What the application of a listener needs: who answers, and the bounds for clients, in seconds."""

    enter: Callable[[], AbstractContextManager[Door]]
    """Who answers a request: held for as long as it takes, as another configuration may come meanwhile."""
    gates: Gates
    activity: Activity
    client_stall: float
    request_timeout: float
    read_rate: ReadRate
    refusals: Refusals = field(default_factory=Refusals)
    """Where errors are noted for the status page."""


def node_server(settings: NodeSettings) -> NodeServer:
    """What answers the connections of a listener."""
    bounds = ConnectionBounds(
        connections=settings.gates.connections,
        unanswered=settings.gates.unanswered,
        head_limit=HEAD_LIMIT,
        head_timeout=settings.request_timeout,
        stall=settings.client_stall,
        refused=HTTP_CONNECTIONS_REFUSED,
        open=HTTP_CONNECTIONS,
    )
    return NodeServer(NodeApp(settings), bounds)


class NodeApp:
    """Answers all that comes on the connections of a listener."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._asked = Asked()

    async def answer(self, request: NodeRequest) -> web.StreamResponse:
        """The answer to a request."""
        headers = request.headers
        agent = headers.get(hdrs.USER_AGENT, "")[:_AGENT_LIMIT]
        record = RequestRecord(request.method, self._asked.path(request), request.remote or "", agent)
        record.has_login = hdrs.AUTHORIZATION in headers
        return await self._recorded(request, record, None)

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        """The answer to what is no request."""
        return await self._recorded(request, RequestRecord("-", "-", request.remote or "", ""), error_of(error))

    async def _recorded(
        self, request: NodeRequest, record: RequestRecord, refusal: RegistryError | None
    ) -> web.StreamResponse:
        REQUEST_ID.set(_request_id())
        CLIENT.set(request.client)
        started = time.perf_counter()
        settings = self._settings
        responder = Responder(
            request,
            record,
            settings.client_stall,
            settings.gates.bodies,
            settings.activity,
            read_rate=settings.read_rate,
        )
        with request_span(request.headers, record.method) as traced:
            try:
                return await self._with_errors(request, record, responder, refusal)
            except asyncio.CancelledError:
                record.aborted = record.aborted or reason_of_end(request, self._settings.activity)
                record.status = record.status or NO_ANSWER
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
        """The answer, or that for its error."""
        try:
            if refusal is not None:
                raise refusal  # noqa: TRY301 - answered as all errors are
            return await self._answered(request, record, responder)
        except RegistryError as error:
            count_rejection(error)
            responder.close_after |= isinstance(error, Malformed)
            shown = error.with_traceback(None)  # it holds this frame, which holds it: both would stay for long
        except Exception:
            _logger.exception("a bug: %s %s", record.method, record.path)
            shown = RegistryError("scope-proxy failed, see its log")
        if not responder.has_begun:
            self._settings.refusals.note(shown, record)
        return await responder.error(shown, REQUEST_ID.get())

    async def _answered(self, request: NodeRequest, record: RequestRecord, responder: Responder) -> web.StreamResponse:
        responder.close_after = request.has_body  # where it ends is nothing that we rely upon
        requests = self._settings.gates.requests
        requests.enter(request.client)
        try:
            with self._settings.activity, self._settings.enter() as door:
                check_framing(request)
                return await self._at(door, request, record, responder)
        finally:
            requests.leave(request.client)

    async def _at(
        self, door: Door, request: NodeRequest, record: RequestRecord, responder: Responder
    ) -> web.StreamResponse:
        extra = door.extra.get(record.path)
        if extra is not None:
            body = await self._body(request)
            responder.close_after = False
            return await extra(request, body, record, responder)
        asked = self._asked.of(request)
        if hdrs.VIA in request.headers and note_via(request.headers.getall(hdrs.VIA)):
            raise Denied("the request has come back to scope-proxy itself: an endpoint of the registry is this proxy")
        record.operation, record.asked = asked.operation, asked
        in_flight = _IN_FLIGHT[asked.operation,]
        in_flight.inc()
        try:
            return await door.handler(request, asked, record, responder)
        finally:
            in_flight.dec()

    async def _body(self, request: NodeRequest) -> bytes:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise BodyTooLarge(f"the request's body is longer than {BODY_LIMIT} bytes") from None
        except TimeoutError:
            raise Malformed("the request's body has not come in time") from None
        except web.RequestPayloadError:
            raise Malformed("the request's body is not proper HTTP/1.1") from None


def _request_id() -> str:
    """A random id; many are drawn at once, as each draw is a call of the system."""
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
    """Count and log a request; `exemplar` leads from a graph to its trace."""
    seconds = time.perf_counter() - started
    _count(record, started, seconds, exemplar)
    if not _logger.isEnabledFor(logging.INFO):
        return
    fields: dict[str, str | int | float] = {
        "user": record.user,
        "registry": record.registry,
        "repository": record.repository,
        "upstream": record.upstream,
        "operation": record.operation,
        "cache": record.cache,
        "status": record.status,
        "bytes": record.sent,
        "seconds": round(seconds, 4),
        "client": record.client,
        "agent": record.agent,
        "error": record.error,
        "aborted": record.aborted,
    }
    _logger.handle(AccessRecord(record.method, record.path, record.status, fields))
