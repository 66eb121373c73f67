"""Connections of clients, with bounds on what each may cost: time until a request has come, bytes, requests waiting.

The class that they build on is aiohttp's, parts of which are not promised to stay; tests/security watches over them.
Requests that wait behind another one are bounded there (32).
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.metrics import HTTP_CONNECTIONS, HTTP_CONNECTIONS_REFUSED
from proxy.server.buffers import bound_send_buffer
from proxy.server.framing import FIELD_LIMIT, HEAD_LIMIT, HEADERS_LIMIT, TARGET_LIMIT, NodeRequest
from proxy.server.gates import Gate

KEEP_ALIVE = 75.0
"""Seconds that a connection is kept between two requests."""
LINGER = 2.0
"""Seconds in which the body of a refused request is read and thrown away, so that the client can see the answer."""
BODY_LIMIT = 64 * 1024
"""Bytes of a request's body that a handler may read."""
WRITE_BUFFER = 256 * 1024
"""Bytes that wait in memory for a client before its handler does; plain connections hold less, by default."""

_NO_REQUEST = ERROR._replace(method="-", version=HttpVersion11, headers=CIMultiDictProxy(CIMultiDict()))
_logger = logging.getLogger(__name__)


class NodeHandler(Protocol):
    """Answers what comes on connections."""

    async def answer(self, request: NodeRequest) -> web.StreamResponse:
        """The answer to a request; raises nothing."""

    async def refuse(self, request: NodeRequest, error: BaseException) -> web.StreamResponse:
        """The answer to what is no request; raises nothing."""


class NodeServer(web.Server):
    """Makes the connections of one listener; each has a place at the gate, and gives it back."""

    def __init__(self, handler: NodeHandler, gate: Gate, *, head_timeout: float, stall: float) -> None:
        super().__init__(
            handler.answer,  # type: ignore[arg-type] # which gets what the factory makes
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
        self.gate = gate
        self.head_timeout = head_timeout
        self.stall = stall

    def __call__(self) -> "NodeConnection":
        """A connection that has been let in at the gate."""
        return NodeConnection(self, self._loop, self._kwargs)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> NodeRequest:
        message = _NO_REQUEST if message is ERROR else message
        return NodeRequest(message, payload, protocol, writer, task, self._loop, client_max_size=BODY_LIMIT)


class NodeConnection(RequestHandler):
    """One connection of a client, from its acceptance to its end."""

    __slots__ = ("_head_size", "_head_timer", "_inside", "_server")

    def __init__(self, server: NodeServer, loop: asyncio.AbstractEventLoop, settings: dict[str, object]) -> None:
        super().__init__(server, loop=loop, **settings)  # type: ignore[arg-type] # as the library passes them
        self._server = server
        self._head_size = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._inside = True
        HTTP_CONNECTIONS.inc()

    def leave(self) -> None:
        """Give the place at the gate back, once."""
        if self._inside:
            self._inside = False
            self._server.gate.leave()
            HTTP_CONNECTIONS.dec()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, and not for long."""
        super().connection_made(transport)
        bound_send_buffer(transport)
        if isinstance(transport, asyncio.WriteTransport) and transport.get_extra_info("sslcontext") is not None:
            transport.set_write_buffer_limits(WRITE_BUFFER)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End everything that belongs to the connection."""
        self._end_of_head()
        self.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that does not end in time, or at all, ends the connection."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._end_of_head()
        elif data and self._is_waiting:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                self._refuse(LineTooLong(b"", FIELD_LIMIT))
            elif self._head_timer is None:
                self._await_head()

    async def start(self) -> None:
        """Answer requests until the connection ends; a client that does not take what is left is cut in the end."""
        transport = self.transport
        try:
            await super().start()
        finally:
            # Closing waits for the client. TLS has a time limit for it, plain connections have none.
            if transport is not None and self.ssl_context is None and transport.get_write_buffer_size():
                self._loop.call_later(self._server.stall, transport.abort)

    def force_close(self) -> None:
        """End the connection. In the middle of an answer it is cut: an end as usual could pass for that of the body."""
        if self._request_in_progress and self.transport is not None:
            self.transport.abort()
        super().force_close()

    @property
    def _is_waiting(self) -> bool:
        """Whether nothing but the next request is due: no answer is being made, no body thrown away."""
        return self._waiter is not None and not self._waiter.done()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._server.head_timeout, self._cut_slow)

    def _end_of_head(self) -> None:
        self._head_size = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut_slow(self) -> None:
        self._head_timer = None
        if self._is_waiting and self.transport is not None:
            HTTP_CONNECTIONS_REFUSED.labels("slow").inc()
            self.transport.abort()

    def _refuse(self, error: HttpProcessingError) -> None:
        """Have the error answered as those that the parser finds."""
        self._end_of_head()
        self._messages.append((_ErrInfo(status=error.code, exc=error, message=error.message), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _make_error_handler(self, err_info: _ErrInfo) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        return functools.partial(self._server.handler.refuse, error=err_info.exc)
