"""Client connections, with limits on what each may cost: time until a request arrives, bytes, queued requests."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy
from prometheus_client import Counter, Gauge

from proxy.server.listener.framing import FIELD_LIMIT, HEADERS_LIMIT, TARGET_LIMIT, NodeRequest
from proxy.server.listener.limits import ConnectionLimit, PendingBytes
from proxy.server.listener.unread import ClientProgress, progress_of

KEEP_ALIVE = 75.0
"""Seconds that an idle connection is kept open."""
LINGER = 2.0
"""Seconds for which the body of a refused request is read and discarded, so that the client gets the response."""
BODY_LIMIT = 64 * 1024
"""Maximum bytes of a request body."""
WRITE_BUFFER = 256 * 1024
"""Bytes buffered for a TLS client before its handler waits; plain connections keep asyncio's lower default."""
BYTE_COST = 2
"""Bytes of memory per byte of an incomplete request, which is held raw and as text (measured) ..."""
LINE_COST = 256
"""... and per line of it."""
HANDSHAKE_COST = 64 * 1024
"""Bytes of memory for an unfinished TLS handshake (measured)."""

_END = b"\r\n\r\n"
_MALFORMED = ERROR._replace(method="-", version=HttpVersion11, headers=CIMultiDictProxy(CIMultiDict()))
_logger = logging.getLogger(__name__)


class NodeHandler(Protocol):
    """Responds to the requests of connections."""

    async def respond(self, request: NodeRequest) -> web.StreamResponse:
        """The response to a request; raises nothing."""

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        """The response to a malformed request; raises nothing."""


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """The limits of a listener's connections, and their metrics; times in seconds."""

    connections: ConnectionLimit
    pending: PendingBytes
    head_limit: int
    """Bytes of an incomplete request head."""
    head_timeout: float
    stall: float
    """Time limit for a client that makes no progress while it reads a response."""
    refused: Counter
    open: Gauge | None = None
    linger: float = LINGER


class NodeServer(web.Server):
    """Creates the connections of one listener; each counts towards the limit until it closes."""

    def __init__(self, handler: NodeHandler, bounds: ConnectionBounds) -> None:
        super().__init__(
            self._respond,  # type: ignore[arg-type] # gets the requests of the factory
            request_factory=self._request,
            handler_cancellation=True,  # cancel the handler if the client closes the connection
            access_log=None,  # the access log of `app` has more fields
            logger=_logger,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=bounds.linger,
            max_line_size=TARGET_LIMIT,
            max_field_size=FIELD_LIMIT,
            max_headers=HEADERS_LIMIT,
            auto_decompress=False,
        )
        self.handler = handler
        self.bounds = bounds

    def connection(self, client: str) -> "NodeConnection":
        """A new connection of a client; it counts towards the limit."""
        return NodeConnection(self, client, self._loop, self._kwargs)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> NodeRequest:
        message = _MALFORMED if message is ERROR else message
        is_supported = message.version in (HttpVersion10, HttpVersion11)
        if not is_supported:
            message = message._replace(version=HttpVersion11)
        request = NodeRequest(message, payload, protocol, writer, task, self._loop, client_max_size=BODY_LIMIT)
        connection: NodeConnection = protocol  # type: ignore[assignment] # this server creates no others
        request.client = connection.client
        request.is_supported = is_supported
        request.has_body = request.body_exists or hdrs.UPGRADE in request.headers
        connection.begin_response(request, payload)
        return request

    async def _respond(self, request: NodeRequest) -> web.StreamResponse:
        try:
            return await self.handler.respond(request)
        finally:
            request.protocol.end_response()  # type: ignore[attr-defined] # as above


class NodeConnection(RequestHandler):
    """One connection of a client."""

    __slots__ = (
        "_bounds",
        "_head_size",
        "_head_timer",
        "_is_counted",
        "_is_lost",
        "_is_refused",
        "_is_registered",
        "_is_responding",
        "_payload",
        "_request",
        "_server",
        "client",
        "raw_transport",
    )

    def __init__(
        self, server: NodeServer, client: str, loop: asyncio.AbstractEventLoop, settings: dict[str, object]
    ) -> None:
        super().__init__(server, loop=loop, **settings)  # type: ignore[arg-type] # as the library passes them
        self.client = client
        self.raw_transport: asyncio.Transport | None = None
        """The transport of the socket, below TLS; None until the connection is open."""
        self._server = server
        self._bounds = server.bounds
        self._head_size = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._request: NodeRequest | None = None
        self._is_responding = self._is_counted = self._is_refused = self._is_lost = False
        self._is_registered = True
        self._bounds.connections.enter(self)
        if self._bounds.open is not None:
            self._bounds.open.inc()

    def leave(self) -> None:
        """Stop counting towards the limit; repeated calls have no effect."""
        if self._is_registered:
            self._is_registered = False
            self._forget()
            self._bounds.connections.leave(self)
            if self._bounds.open is not None:
                self._bounds.open.dec()

    def close_if_idle(self) -> bool:
        """Close to make room, unless it is not open yet or part of a response is unsent; returns whether it closed."""
        transport = self.transport or self.raw_transport
        if transport is None or self.raw_transport is None:
            return False
        if transport.get_write_buffer_size() or self.raw_transport.get_write_buffer_size():  # with TLS both buffer
            return False
        self.leave()
        self.cut("limit")
        return True

    def cut(self, reason: str) -> None:
        """Close at once."""
        if self.raw_transport is not None:
            self._bounds.refused.labels(reason).inc()
            # Cancel first: a `sendfile` that ends after its socket leaves its descriptor registered in the loop, and
            # the next connection with the same descriptor is never read.
            if self._request is not None and self._task_handler is not None:
                self._request.cut_for = reason
                self._task_handler.cancel()
            self.raw_transport.abort()

    def progress(self) -> ClientProgress | None:
        """How much the client has received; None if nothing is unsent or unacknowledged."""
        return progress_of(self.raw_transport, self.transport)

    def begin_handshake(self) -> None:
        """Count the memory of the TLS handshake until it ends."""
        self._count(HANDSHAKE_COST)

    def begin_response(self, request: NodeRequest, payload: StreamReader) -> None:
        """Note that the response to a request begins; the request body may be incomplete."""
        self._is_responding = True
        self._request = request
        self._payload = payload
        if self._is_registered:
            self._bounds.connections.set_busy(self)
        self._settle()

    def end_response(self) -> None:
        """Note that the response is complete."""
        self._is_responding = False
        self._request = None  # it refers to the connection: a reference cycle
        if self._is_registered:
            self._bounds.connections.set_idle(self)
        self._settle()
        self._bound_head()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, with a timeout."""
        self._forget()
        if self.raw_transport is None and isinstance(transport, asyncio.Transport):
            self.raw_transport = transport
        super().connection_made(transport)
        if isinstance(transport, asyncio.WriteTransport) and transport.get_extra_info("sslcontext") is not None:
            transport.set_write_buffer_limits(WRITE_BUFFER)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release what belongs to the connection."""
        self._is_lost = True
        self._end_head()
        try:
            super().connection_lost(exc)
            self._messages.clear()  # requests without a response
        finally:
            self.leave()

    def data_received(self, data: bytes) -> None:
        """Parse data; cut the connection if a request head is too slow or too large."""
        if self._is_refused:
            return
        before, is_first = self._request_count, not (self._is_responding or self._messages)
        body = self._messages[-1][1] if self._messages else self._payload
        is_body = not body.is_eof()
        super().data_received(data)
        parsed = self._request_count - before
        if parsed:
            self._end_head()
            if parsed == 1 and is_first and data.endswith(_END):
                return  # the usual case
            if self._messages[-1][1] is EMPTY_PAYLOAD and _END in data:
                self._head_size = len(data) - data.rfind(_END) - len(_END)
        elif not is_body:
            self._head_size += len(data)
        if data:
            self._count(BYTE_COST * len(data) + LINE_COST * data.count(b"\n"))
            self._bound_head()

    async def start(self) -> None:
        """Handle requests until the connection ends; abort if the client does not read the last response."""
        transport, is_plain = self.transport, self.ssl_context is None
        try:
            await super().start()
        finally:
            # close() waits for the client: TLS has a time limit for that, plain connections have none.
            if transport is not None and is_plain and transport.get_write_buffer_size():
                self._loop.call_later(self._bounds.stall, transport.abort)

    def force_close(self) -> None:
        """Close the connection. During a response it is aborted: a normal close could look like the end of the body."""
        # Not if the connection is lost: asyncio would close the transport a second time.
        if self._request_in_progress and self.transport is not None and not self._is_lost:
            self.transport.abort()
        super().force_close()

    def _count(self, size: int) -> None:
        if self._is_registered:
            self._is_counted = True
            self._bounds.pending.add(self, size)

    def _settle(self) -> None:
        """Stop counting memory once no incomplete or queued request is left."""
        is_waiting = self._messages or self._head_size or (self._is_responding and not self._payload.is_eof())
        if self._is_counted and not is_waiting:
            self._forget()

    def _forget(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._bounds.pending.forget(self)

    def _bound_head(self) -> None:
        if self._head_size > self._bounds.head_limit:
            self._refuse(LineTooLong(b"", FIELD_LIMIT))
        elif self._head_size and self._head_timer is None and not (self._is_responding or self._messages):
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._bounds.head_timeout, self._cut_slow)

    def _end_head(self) -> None:
        self._head_size = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut_slow(self) -> None:
        self._head_timer = None
        if not self._is_responding and self.transport is not None:
            self.cut("slow")

    def _refuse(self, error: HttpProcessingError) -> None:
        """Respond to an error as if the parser had raised it, and ignore further data."""
        self._end_head()
        self._is_refused = True
        self._messages.append((_ErrInfo(status=error.code, exc=error, message=error.message), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _make_error_handler(self, err_info: _ErrInfo) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        return functools.partial(self._respond_refused, err_info.exc)

    async def _respond_refused(self, error: BaseException, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._server.handler.refuse(request, error)  # type: ignore[arg-type] # this server creates no others
        finally:
            self.end_response()
