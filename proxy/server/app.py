"""The application that nodes talk to: every request passes here, is answered, logged once and counted once."""

import asyncio
import logging
import secrets
import time

from aiohttp import web
from aiohttp.typedefs import Handler as AiohttpHandler

from proxy.log import REQUEST_ID
from proxy.metrics import HTTP_BYTES, HTTP_DURATION, HTTP_IN_FLIGHT, HTTP_REQUESTS
from proxy.oci.errors import Denied, NameInvalid, RegistryError
from proxy.oci.request import RegistryRequest, parse_request
from proxy.server.handlers import Handler
from proxy.server.record import RequestRecord
from proxy.server.responses import Responder
from proxy.transport.loop import note_via

BODY_LIMIT = 1024
"""Bytes of a request's body that are taken; a pull has none."""
_REQUEST_ID_BYTES = 8
_AGENT_LIMIT = 200

_logger = logging.getLogger("proxy.access")


def node_app(serve: Handler, client_stall: float) -> web.Application:
    """The node-facing application; `client_stall` is in seconds."""

    @web.middleware
    async def answer(request: web.Request, handler: AiohttpHandler) -> web.StreamResponse:  # noqa: ARG001 - see below
        REQUEST_ID.set(secrets.token_hex(_REQUEST_ID_BYTES))
        agent = request.headers.get("User-Agent", "")[:_AGENT_LIMIT]
        record = RequestRecord(request.method, request.path, request.remote or "", agent)
        started = time.perf_counter()
        try:
            return await _answered(serve, request, record, client_stall)
        except asyncio.CancelledError:
            record.aborted = record.aborted or "client_gone"
            raise
        finally:
            _finish(record, time.perf_counter() - started)

    # The middleware answers everything, also what no route matches (`*`, a line break in the path), which aiohttp would
    # answer by itself. The route only spares the making of a 404 for each request, a tenth of a hot one.
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[answer])
    app.router.add_route("*", "/{path:.*}", _unused)
    return app


async def _unused(_: web.Request) -> web.StreamResponse:
    raise AssertionError("the middleware answers every request")


async def _answered(
    handler: Handler, request: web.Request, record: RequestRecord, client_stall: float
) -> web.StreamResponse:
    responder = Responder(request, record, client_stall)
    try:
        asked = _parse(request)
        record.operation = asked.operation
        with HTTP_IN_FLIGHT.labels(record.route).track_inprogress():
            return await handler(request, asked, record, responder)
    except RegistryError as error:
        return await responder.error(error, REQUEST_ID.get())
    except Exception:
        _logger.exception("a bug: %s %s", record.method, record.path)
        return await responder.error(RegistryError("scope-proxy failed, see its log"), REQUEST_ID.get())


def _parse(request: web.Request) -> RegistryRequest:
    asked = parse_request(request.method, request.raw_path.partition("?")[0], request.query.items())
    if request.body_exists:
        raise NameInvalid("a pull has no body")
    if note_via(request.headers.getall("Via", [])):
        raise Denied("the request has come back to scope-proxy itself: an endpoint of the registry is this proxy")
    return asked


def _finish(record: RequestRecord, seconds: float) -> None:
    HTTP_REQUESTS.labels(record.route, str(record.status)).inc()
    HTTP_DURATION.labels(record.route).observe(seconds)
    HTTP_BYTES.labels(record.route).inc(record.sent)
    _logger.info(
        "%s %s %d",
        record.method,
        record.path,
        record.status,
        extra={
            "registry": record.registry,
            "repository": record.repository,
            "upstream": record.upstream,
            "operation": record.route,
            "status": record.status,
            "bytes": record.sent,
            "seconds": round(seconds, 4),
            "client": record.client,
            "agent": record.agent,
            "error": record.error,
            "aborted": record.aborted,
        },
    )
