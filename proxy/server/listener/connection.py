"""Connections of clients, with bounds on what each may cost: time until a request has come, bytes, requests waiting."""

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
from proxy.server.listener.limits import ConnectionLimit, UnansweredBytes
from proxy.server.listener.unread import Taken, taken_by

KEEP_ALIVE = 75.0
"""Seconds that a connection is kept between two requests."""
LINGER = 2.0
"""Seconds in which the body of a refused request is read and thrown away, so that the client can see the answer."""
BODY_LIMIT = 64 * 1024
"""Bytes of a request's body that a handler may read."""
WRITE_BUFFER = 256 * 1024
"""Bytes that wait in memory for a client before its handler does; plain connections hold less, by default."""
BYTE_COST = 2
"""Bytes of memory for each byte of an incomplete request (measured): it is held raw and as text ..."""
LINE_COST = 256
"""... and for each line of it."""
HANDSHAKE_COST = 64 * 1024
"""Bytes of memory for an unfinished TLS handshake (measured)."""

_END = b"\r\n\r\n"
_NO_REQUEST = ERROR._replace(method="-", version=HttpVersion11, headers=CIMultiDictProxy(CIMultiDict()))
_logger = logging.getLogger(__name__)


class NodeHandler(Protocol):
    """Answers what comes on connections."""

    async def answer(self, request: NodeRequest) -> web.StreamResponse:
        """The answer to a request; raises nothing."""

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        """The answer to what is no request; raises nothing."""


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """The bounds of the connections of a listener, and where they are counted; times in seconds."""

    connections: ConnectionLimit
    unanswered: UnansweredBytes
    head_limit: int
    """Bytes of an incomplete head."""
    head_timeout: float
    stall: float
    """Without progress of a client that reads a response."""
    refused: Counter
    open: Gauge | None = None


class NodeServer(web.Server):
    """Makes the connections of one listener; each has a place, and gives it back."""

    def __init__(self, handler: NodeHandler, bounds: ConnectionBounds) -> None:
        super().__init__(
            self._answer,  # type: ignore[arg-type] # which gets what the factory makes
            request_factory=self._request,
            handler_cancellation=True,  # who is gone waits for nothing
            access_log=None,  # our own line holds more
            logger=_logger,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=LINGER,
            max_line_size=TARGET_LIMIT,
            max_field_size=FIELD_LIMIT,
            max_headers=HEADERS_LIMIT,
            auto_decompress=False,
        )
        self.handler = handler
        self.bounds = bounds

    def connection(self, client: str) -> "NodeConnection":
        """A new connection of a client; it takes a place."""
        return NodeConnection(self, client, self._loop, self._kwargs)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> NodeRequest:
        message = _NO_REQUEST if message is ERROR else message
        is_spoken = message.version in (HttpVersion10, HttpVersion11)
        if not is_spoken:
            message = message._replace(version=HttpVersion11)
        request = NodeRequest(message, payload, protocol, writer, task, self._loop, client_max_size=BODY_LIMIT)
        connection: NodeConnection = protocol  # type: ignore[assignment] # this server makes no others
        request.client = connection.client
        request.is_spoken = is_spoken
        request.has_body = request.body_exists or hdrs.UPGRADE in request.headers
        connection.begin_answer(request, payload)
        return request

    async def _answer(self, request: NodeRequest) -> web.StreamResponse:
        try:
            return await self.handler.answer(request)
        finally:
            request.protocol.end_answer()  # type: ignore[attr-defined] # as above


class NodeConnection(RequestHandler):
    """One connection of a client, from its acceptance to its end."""

    __slots__ = (
        "_bounds",
        "_head_size",
        "_head_timer",
        "_is_answering",
        "_is_counted",
        "_is_inside",
        "_is_lost",
        "_is_refused",
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
        self._is_answering = self._is_counted = self._is_refused = self._is_lost = False
        self._is_inside = True
        self._bounds.connections.enter(self)
        if self._bounds.open is not None:
            self._bounds.open.inc()

    def leave(self) -> None:
        """Give the place back, once."""
        if self._is_inside:
            self._is_inside = False
            self._forget()
            self._bounds.connections.leave(self)
            if self._bounds.open is not None:
                self._bounds.open.dec()

    def close_if_idle(self) -> bool:
        """Close for another connection, unless it is not open yet or part of a response is still to be sent."""
        transport = self.transport or self.raw_transport
        if transport is None or self.raw_transport is None:
            return False
        if transport.get_write_buffer_size() or self.raw_transport.get_write_buffer_size():  # TLS has both
            return False
        self.leave()
        self.cut("limit")
        return True

    def cut(self, reason: str) -> None:
        """Close at once."""
        if self.raw_transport is not None:
            self._bounds.refused.labels(reason).inc()
            # First: a `sendfile` that ends after its socket leaves the loop with a dead entry for the descriptor, and
            # whatever gets the same number next is never read.
            if self._request is not None and self._task_handler is not None:
                self._request.cut_for = reason
                self._task_handler.cancel()
            self.raw_transport.abort()

    def taken(self) -> Taken | None:
        """What the client has taken so far; None where nothing waits for it."""
        return taken_by(self.raw_transport, self.transport)

    def begin_handshake(self) -> None:
        """Count the memory of TLS until the handshake ends."""
        self._count(HANDSHAKE_COST)

    def begin_answer(self, request: NodeRequest, payload: StreamReader) -> None:
        """A request has come, its body perhaps not yet."""
        self._is_answering = True
        self._request = request
        self._payload = payload
        if self._is_inside:
            self._bounds.connections.set_busy(self)
        self._settle()

    def end_answer(self) -> None:
        """The request is answered."""
        self._is_answering = False
        self._request = None  # which holds the connection: only the garbage collector would free the two
        if self._is_inside:
            self._bounds.connections.set_idle(self)
        self._settle()
        self._bound_head()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, and not for long."""
        self._forget()
        if self.raw_transport is None and isinstance(transport, asyncio.Transport):
            self.raw_transport = transport
        super().connection_made(transport)
        if isinstance(transport, asyncio.WriteTransport) and transport.get_extra_info("sslcontext") is not None:
            transport.set_write_buffer_limits(WRITE_BUFFER)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End everything that belongs to the connection."""
        self._is_lost = True
        self._end_of_head()
        try:
            super().connection_lost(exc)
            self._messages.clear()  # nobody answers them
        finally:
            self.leave()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that does not end in time, or at all, ends the connection."""
        if self._is_refused:
            return
        before, is_first = self._request_count, not (self._is_answering or self._messages)
        body = self._messages[-1][1] if self._messages else self._payload
        is_body = not body.is_eof()
        super().data_received(data)
        came = self._request_count - before
        if came:
            self._end_of_head()
            if came == 1 and is_first and data.endswith(_END):
                return  # as nearly always
            if self._messages[-1][1] is EMPTY_PAYLOAD and _END in data:
                self._head_size = len(data) - data.rfind(_END) - len(_END)
        elif not is_body:
            self._head_size += len(data)
        if data:
            self._count(BYTE_COST * len(data) + LINE_COST * data.count(b"\n"))
            self._bound_head()

    async def start(self) -> None:
        """Answer requests until the connection ends; a client that does not take what is left is cut in the end."""
        transport, is_plain = self.transport, self.ssl_context is None
        try:
            await super().start()
        finally:
            # Closing waits for the client. TLS has a time limit for it, plain connections have none.
            if transport is not None and is_plain and transport.get_write_buffer_size():
                self._loop.call_later(self._bounds.stall, transport.abort)

    def force_close(self) -> None:
        """End the connection. In the middle of an answer it is cut: an end as usual could pass for that of the body."""
        # A transport that has lost its connection must not be aborted: asyncio would end it a second time.
        if self._request_in_progress and self.transport is not None and not self._is_lost:
            self.transport.abort()
        super().force_close()

    def _count(self, size: int) -> None:
        if self._is_inside:
            self._is_counted = True
            self._bounds.unanswered.add(self, size)

    def _settle(self) -> None:
        """Stop counting when all that has come is answered or is being answered."""
        is_waiting = self._messages or self._head_size or (self._is_answering and not self._payload.is_eof())
        if self._is_counted and not is_waiting:
            self._forget()

    def _forget(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._bounds.unanswered.forget(self)

    def _bound_head(self) -> None:
        if self._head_size > self._bounds.head_limit:
            self._refuse(LineTooLong(b"", FIELD_LIMIT))
        elif self._head_size and self._head_timer is None and not (self._is_answering or self._messages):
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._bounds.head_timeout, self._cut_slow)

    def _end_of_head(self) -> None:
        self._head_size = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut_slow(self) -> None:
        self._head_timer = None
        if not self._is_answering and self.transport is not None:
            self.cut("slow")

    def _refuse(self, error: HttpProcessingError) -> None:
        """Have the error answered as one of the parser's, and read no more."""
        self._end_of_head()
        self._is_refused = True
        self._messages.append((_ErrInfo(status=error.code, exc=error, message=error.message), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _make_error_handler(self, err_info: _ErrInfo) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        return functools.partial(self._answer_refused, err_info.exc)

    async def _answer_refused(self, error: BaseException, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._server.handler.refuse(request, error)  # type: ignore[arg-type] # this server makes no others
        finally:
            self.end_answer()
