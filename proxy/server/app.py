"""The application that nodes talk to: every request passes here, is answered, logged once and counted once."""

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from proxy.log import REQUEST_ID
from proxy.metrics import HTTP_BYTES, HTTP_DURATION, HTTP_FIRST_BYTE, HTTP_IN_FLIGHT, HTTP_REQUESTS, Bound
from proxy.oci.errors import Denied, NameInvalid, RegistryError
from proxy.oci.request import RegistryRequest, parse_request
from proxy.server.activity import Activity
from proxy.server.connections import BODY_LIMIT, NodeServer
from proxy.server.framing import BodyTooLarge, Malformed, NodeRequest, check_framing, error_of, has_body
from proxy.server.gates import Gates
from proxy.server.record import RequestRecord
from proxy.server.refusals import Refusals
from proxy.server.rejections import count_rejection
from proxy.server.responses import Responder
from proxy.tracing import annotate, request_span, trace_id
from proxy.transport.loop import note_via

_REQUEST_ID_BYTES = 8
_AGENT_LIMIT = 200

_REQUESTS, _BYTES, _IN_FLIGHT = Bound(HTTP_REQUESTS), Bound(HTTP_BYTES), Bound(HTTP_IN_FLIGHT)
_DURATIONS, _FIRST_BYTES = Bound(HTTP_DURATION), Bound(HTTP_FIRST_BYTE)
_logger = logging.getLogger("proxy.access")


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
    refusals: Refusals = field(default_factory=Refusals)
    """Where errors are noted for the status page."""


def node_server(settings: NodeSettings) -> NodeServer:
    """What answers the connections of a listener."""
    gate, head_timeout = settings.gates.connections, settings.request_timeout
    return NodeServer(NodeApp(settings), gate, head_timeout=head_timeout, stall=settings.client_stall)


class NodeApp:
    """Answers all that comes on the connections of a listener."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings

    async def answer(self, request: NodeRequest) -> web.StreamResponse:
        """The answer to a request."""
        agent = request.headers.get("User-Agent", "")[:_AGENT_LIMIT]
        record = RequestRecord(request.method, request.path, request.remote or "", agent)
        record.has_login = "Authorization" in request.headers
        return await self._recorded(request, record, functools.partial(self._answered, request, record))

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        """The answer to what is no request."""

        async def refused(_: Responder) -> web.StreamResponse:
            raise error_of(error)

        return await self._recorded(request, RequestRecord("-", "-", request.remote or "", ""), refused)

    async def _recorded(
        self,
        request: NodeRequest,
        record: RequestRecord,
        work: Callable[[Responder], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        REQUEST_ID.set(secrets.token_hex(_REQUEST_ID_BYTES))
        started = time.perf_counter()
        settings = self._settings
        responder = Responder(request, record, settings.client_stall, settings.gates.bodies, settings.activity)
        with request_span(request.headers, record.method):
            try:
                return await self._with_errors(work, record, responder)
            except asyncio.CancelledError:
                record.aborted = record.aborted or self._settings.activity.reason_of_cut
                raise
            finally:
                annotate(route=record.route, registry=record.registry, status=record.status, cache=record.cache)
                _finish(record, started)
                self._settings.refusals.note_cut(record)

    async def _with_errors(
        self, work: Callable[[Responder], Awaitable[web.StreamResponse]], record: RequestRecord, responder: Responder
    ) -> web.StreamResponse:
        """The answer, or that for its error."""
        try:
            return await work(responder)
        except RegistryError as error:
            count_rejection(error)
            responder.close_after |= isinstance(error, Malformed)
            shown = error
        except Exception:
            _logger.exception("a bug: %s %s", record.method, record.path)
            shown = RegistryError("scope-proxy failed, see its log")
        self._settings.refusals.note(shown, record)
        return await responder.error(shown, REQUEST_ID.get())

    async def _answered(self, request: NodeRequest, record: RequestRecord, responder: Responder) -> web.StreamResponse:
        responder.close_after = has_body(request)  # where it ends is nothing that we rely upon
        settings = self._settings
        with settings.gates.requests.place(), settings.activity.noted(), settings.enter() as door:
            check_framing(request)
            extra = door.extra.get(request.path)
            if extra is not None:
                body = await self._body(request)
                responder.close_after = False
                return await extra(request, body, record, responder)
            asked = _parse(request)
            record.operation, record.asked = asked.operation, asked
            with _IN_FLIGHT[record.route,].track_inprogress():
                return await door.handler(request, asked, record, responder)

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


def _parse(request: NodeRequest) -> RegistryRequest:
    asked = parse_request(request.method, request.raw_path.partition("?")[0], request.query.items())
    if request.body_exists:
        raise NameInvalid("a pull has no body")
    if note_via(request.headers.getall("Via", [])):
        raise Denied("the request has come back to scope-proxy itself: an endpoint of the registry is this proxy")
    return asked


def _count(record: RequestRecord, started: float, seconds: float) -> None:
    served = record.route, record.cache
    _REQUESTS[record.route, record.status].inc()
    _DURATIONS[served].observe(seconds, _exemplar())
    _BYTES[served].inc(record.sent)
    if record.cache and record.first_byte:
        _FIRST_BYTES[served].observe(record.first_byte - started)


def _exemplar() -> dict[str, str] | None:
    """What leads from a graph to a trace, where there is one."""
    trace = trace_id()
    return None if trace is None else {"trace_id": trace}


def _finish(record: RequestRecord, started: float) -> None:
    seconds = time.perf_counter() - started
    _count(record, started, seconds)
    _logger.info(
        "%s %s %d",
        record.method,
        record.path,
        record.status,
        extra={
            "user": record.user,
            "registry": record.registry,
            "repository": record.repository,
            "upstream": record.upstream,
            "operation": record.route,
            "cache": record.cache,
            "status": record.status,
            "bytes": record.sent,
            "seconds": round(seconds, 4),
            "client": record.client,
            "agent": record.agent,
            "error": record.error,
            "aborted": record.aborted,
        },
    )
