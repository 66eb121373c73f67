"""The admin and metrics ports: metrics, health and, on the admin port, the status page. Limited as listeners are."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus

from aiohttp import hdrs, web

from proxy.observe.metrics import ADMIN_CONNECTIONS_REFUSED, render
from proxy.server.listener.connection import ConnectionBounds, NodeServer
from proxy.server.listener.framing import Malformed, NodeRequest, check_framing, error_of
from proxy.server.listener.held_bodies import Overloaded
from proxy.server.listener.limits import ConnectionLimit, PendingBytes, RequestLimit
from proxy.server.status.collector import StatusCollector
from proxy.server.status.routes import Page, status_pages

CONNECTIONS = 128
"""Connections to each port; above half of it, a connection is closed after its response."""
WAITING = 64
"""Further connections that wait until another one closes."""
REQUESTS = 16
"""Concurrent requests per port; health endpoints do not count."""
HEAD_LIMIT = 32 * 1024
"""Bytes of an incomplete request head."""
PENDING_LIMIT = 4 * 1024 * 1024
"""Bytes of memory for incomplete requests on all connections of one port."""
READ_RATE = 16 * 1024
"""Minimum bytes per second that a client has to read while other connections wait."""
STALL = 30.0
"""Seconds that a client may take to read a response."""

_METHODS = (hdrs.METH_GET, hdrs.METH_HEAD)
_logger = logging.getLogger(__name__)


def admin_server(is_ready: Callable[[], bool], collector: StatusCollector, head_timeout: float) -> NodeServer:
    """Serves the paths of `metrics_server`, and the status page."""
    return _server({**_metrics(), **status_pages(collector)}, is_ready, head_timeout)


def metrics_server(is_ready: Callable[[], bool], head_timeout: float) -> NodeServer:
    """Serves only `/metrics`, `/healthz` (alive) and `/readyz` (serving nodes; upstream health does not matter)."""
    return _server(_metrics(), is_ready, head_timeout)


def _server(pages: Mapping[str, Page], is_ready: Callable[[], bool], head_timeout: float) -> NodeServer:
    connections = ConnectionLimit(CONNECTIONS, WAITING, READ_RATE)
    bounds = ConnectionBounds(
        connections=connections,
        pending=PendingBytes(PENDING_LIMIT),
        head_limit=HEAD_LIMIT,
        head_timeout=head_timeout,
        stall=STALL,
        refused=ADMIN_CONNECTIONS_REFUSED,
    )
    app = AdminApp(_health(is_ready), pages, RequestLimit(REQUESTS), connections)
    return NodeServer(app, bounds)


def _metrics() -> Mapping[str, Page]:
    async def metrics(request: web.BaseRequest) -> web.Response:
        page, media_type = await asyncio.to_thread(render, request.headers.get("Accept", ""))  # it reads files of /proc
        return web.Response(body=page, headers={"Content-Type": media_type})

    return {"/metrics": metrics}


def _health(is_ready: Callable[[], bool]) -> Mapping[str, Page]:
    async def healthy(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.BaseRequest) -> web.Response:
        if is_ready():
            return web.Response(text="ready\n")
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="not serving\n")

    return {"/healthz": healthy, "/readyz": ready}


class AdminApp:
    """Serves GET and HEAD of known paths; health endpoints also while other pages get 503."""

    def __init__(
        self,
        health: Mapping[str, Page],
        pages: Mapping[str, Page],
        requests: RequestLimit,
        connections: ConnectionLimit,
    ) -> None:
        self._health = health
        self._pages = pages
        self._requests = requests
        self._connections = connections

    async def respond(self, request: NodeRequest) -> web.StreamResponse:
        """The response to a request."""
        path = request.raw_path.partition("?")[0]
        health = self._health.get(path)
        if health is not None:
            return await self._serve(request, health)
        try:
            self._requests.enter(request.client)
        except Overloaded as error:
            return await self._send(request, web.Response(status=error.status, text=f"{error.reason}\n"))
        try:
            return await self._serve(request, self._pages.get(path, _not_found))
        finally:
            self._requests.leave(request.client)

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        """The response to a malformed request."""
        return await self._send(request, _refusal(error_of(error)))

    async def _serve(self, request: NodeRequest, page: Page) -> web.StreamResponse:
        return await self._send(request, await _page_response(request, page))

    async def _send(self, request: NodeRequest, response: web.StreamResponse) -> web.StreamResponse:
        """Send a response; abort the connection of a client that does not read it."""
        response.headers[hdrs.SERVER] = "scope-proxy"
        if request.has_body or self._connections.is_crowded:
            response.force_close()
        try:
            async with asyncio.timeout(STALL):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # the client has closed the connection
        return response


async def _page_response(request: NodeRequest, page: Page) -> web.Response:
    try:
        check_framing(request)
    except Malformed as error:
        return _refusal(error)
    if request.method not in _METHODS and page is not _not_found:
        headers = {hdrs.ALLOW: ", ".join(_METHODS)}
        return web.Response(
            status=HTTPStatus.METHOD_NOT_ALLOWED, text="only GET and HEAD are supported\n", headers=headers
        )
    try:
        return await page(request)
    except Exception:
        _logger.exception("a bug: cannot render the page %s", request.path)
        return web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR, text="scope-proxy failed, see its log\n")


async def _not_found(_: web.BaseRequest) -> web.Response:
    return web.Response(status=HTTPStatus.NOT_FOUND, text="page not found\n")


def _refusal(error: Malformed) -> web.Response:
    response = web.Response(status=error.status, text=f"{error.reason}\n")
    response.force_close()
    return response
