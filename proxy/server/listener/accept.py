"""Accepts connections up to the limit, shared fairly between addresses, with a reserve of file descriptors."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar

from aiohttp import web

from proxy.server.listener.connection import NodeConnection, NodeServer
from proxy.server.listener.limits import SAMPLE_SECONDS
from proxy.transport.limits import client_of

SIZE = 16
"""Descriptors in reserve."""


class DescriptorReserve:
    """Open descriptors that are closed one by one to make room; listeners for nodes pause until it is full again."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._kept: list[int] = []
        self.refill()

    def lend(self) -> bool:
        """Close one, so that another can be opened; False if none is left."""
        if not self._kept:
            return False
        os.close(self._kept.pop())
        return True

    def refill(self) -> bool:
        """Open the missing ones, if the system allows; returns whether the reserve is full."""
        while len(self._kept) < self._size:
            try:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Close all."""
        self._size = 0
        while self.lend():
            pass


LOCAL_BUFFER = 256 * 1024
"""Bytes of the send buffer for a client on the same machine (Linux doubles the value, and limits it).

By default Linux buffers up to 4 MiB. Sender and receiver share CPU caches: data that fits into them costs a third less
CPU time (1 to 4 clients on a blob of 64 MiB, measured). Many local clients cause more wake-ups in return. Clients
across a network keep the default: CPU caches do not matter there, and high latency needs large buffers.
"""
AT_ONCE = 128
"""Connections accepted per turn of the event loop ..."""
SHARE_AT_ONCE = 16
"""... but at most 1/16 of the limit: a new connection has time to send its request before others replace it."""
PAUSE = 1.0
"""Seconds without accepting after the system ran out of descriptors or memory."""
TLS_BUFFER = 16 * 1024
"""Bytes of the receive buffer of a TLS connection: requests are small. asyncio's default is 256 KiB."""

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_logger = logging.getLogger(__name__)


def bound_send_buffer(accepted: socket.socket, host: str, size: int = LOCAL_BUFFER) -> None:
    """Limit the send buffer for a client on this machine; other clients keep the system default."""
    address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    if (mapped or address).is_loopback:
        with contextlib.suppress(OSError):  # already closed
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


class _ListenerTls(SSLProtocol):
    """The TLS protocol of a client connection."""

    max_size: ClassVar[int] = TLS_BUFFER


class _Accepted:
    """An accepted connection that is not open yet; it waits for room as long as a request head may take."""

    def __init__(self, site: "NodeSite", accepted: socket.socket, client: str) -> None:
        self.client = client
        self._site = site
        self._accepted = accepted
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Serve the connection."""
        self._end_wait()
        self._site.open(self._accepted, self.client)

    def wait(self) -> None:
        """Wait for room, with a timeout."""
        self._timer = self._site.loop.call_later(self._site.bounds.head_timeout, self.give_up)
        self._site.wait(self)

    def refuse(self) -> None:
        """Close the connection."""
        self._end_wait()
        self._site.bounds.refused.labels("limit").inc()
        self._accepted.close()

    def give_up(self) -> None:
        """Stop waiting and close the connection."""
        self._site.bounds.connections.withdraw(self)
        self.refuse()

    def _end_wait(self) -> None:
        self._site.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()


class NodeSite(web.BaseSite):
    """Accepts the connections of one listener.

    Replaces asyncio's server, which has no limit on connections and handshakes, and which logs hundreds of lines per
    second if no descriptors are left. A site with `is_privileged` may use the reserve of descriptors.
    """

    def __init__(
        self,
        runner: web.ServerRunner,
        server: NodeServer,
        listening: socket.socket,
        reserve: DescriptorReserve,
        tls: ssl.SSLContext | None = None,
        *,
        is_privileged: bool = False,
        pause: float = PAUSE,
        local_buffer: int = LOCAL_BUFFER,
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._node_server = server
        self.bounds = server.bounds
        self.waiting: set[_Accepted] = set()
        self._listening = listening
        self._reserve = reserve
        self._is_privileged = is_privileged
        self._pause_seconds = pause
        self._local_buffer = local_buffer
        self._at_once = min(max(self.bounds.connections.limit // SHARE_AT_ONCE, 1), AT_ONCE)
        self._tls = tls
        self.loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._sampling: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The address it listens on."""
        return str(self._listening.getsockname())

    async def start(self) -> None:
        """Start accepting."""
        await super().start()
        self._listening.settimeout(0)
        self._resume()

    async def stop(self) -> None:
        """Stop accepting, and cancel handshakes in progress."""
        if self._pause is not None:
            self._pause.cancel()
        self.loop.remove_reader(self._listening)
        self._listening.close()
        if self._sampling is not None:
            self._sampling.cancel()
        for accepted in tuple(self.waiting):
            accepted.give_up()
        for opening in tuple(self._opening):
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await super().stop()

    def wait(self, accepted: _Accepted) -> None:
        """Add a waiting connection; while one waits, unread connections are cut."""
        self.waiting.add(accepted)
        if self._sampling is None:
            self._sampling = self.loop.call_later(0, self._cut_unread)

    def _cut_unread(self) -> None:
        self._sampling = None
        self.bounds.connections.cut_unread(self.loop.time())
        if self.waiting:
            self._sampling = self.loop.call_later(SAMPLE_SECONDS, self._cut_unread)

    def _resume(self) -> None:
        self._pause = None
        self.loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                accepted, address = self._next()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            if not self._reserve.refill() and not self._is_privileged:
                accepted.close()
                self._reserve.refill()
                self._pause_accepting(
                    OSError(errno.EMFILE, "the remaining file descriptors are reserved for the admin port")
                )
                return
            accepted.settimeout(0)
            bound_send_buffer(accepted, str(address[0]), self._local_buffer)
            self.bounds.connections.admit(_Accepted(self, accepted, client_of(str(address[0]))))

    def _next(self) -> tuple[socket.socket, tuple[object, ...]]:
        """The next connection; raises OSError."""
        while True:
            try:
                return self._listening.accept()
            except OSError as error:
                # Another thread may take the freed descriptor: then lend one more.
                if error.errno not in _NO_DESCRIPTORS or not self._is_privileged or not self._reserve.lend():
                    raise

    def _pause_accepting(self, error: OSError) -> None:
        """Pause accepting; further clients wait in the backlog."""
        self.bounds.refused.labels("system").inc()
        _logger.error("cannot accept connections, retrying in %.0f s: %s", self._pause_seconds, error.strerror)
        self.loop.remove_reader(self._listening)
        self._pause = self.loop.call_later(self._pause_seconds, self._resume)

    def open(self, accepted: socket.socket, client: str) -> None:
        """Serve a connection."""
        opening = self.loop.create_task(self._open(accepted, self._node_server.connection(client)))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, connection: NodeConnection) -> None:
        try:
            if self._tls is None:
                connection.raw_transport, _ = await self.loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await self._shake_hands(accepted, connection, self._tls)
        except OSError as error:  # ssl.SSLError is one
            self.bounds.refused.labels("handshake").inc()
            _logger.debug("TLS handshake failed: %s", error)
            self._close(accepted, connection)
        except BaseException:
            self._close(accepted, connection)
            raise

    async def _shake_hands(self, accepted: socket.socket, connection: NodeConnection, tls: ssl.SSLContext) -> None:
        """Like `connect_accepted_socket` with TLS, with smaller buffers and a transport that can be cut meanwhile."""
        done: asyncio.Future[None] = self.loop.create_future()
        limit = self.bounds.head_timeout
        secured = _ListenerTls(
            self.loop,
            connection,
            tls,
            done,
            server_side=True,
            ssl_handshake_timeout=limit,  # type: ignore[arg-type] # the loop accepts fractions of seconds too
            ssl_shutdown_timeout=limit,
        )
        connection.raw_transport, _ = await self.loop.connect_accepted_socket(lambda: secured, accepted)
        connection.begin_handshake()
        await done
        if connection.transport is None:  # cut or lost during the handshake
            connection.leave()

    @staticmethod
    def _close(accepted: socket.socket, connection: NodeConnection) -> None:
        connection.leave()
        if connection.raw_transport is not None:
            connection.raw_transport.abort()
        accepted.close()
