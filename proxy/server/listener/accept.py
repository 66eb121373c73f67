"""Accepting connections: as many as there may be, fairly shared between addresses, with a reserve of descriptors."""

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
from proxy.server.listener.limits import UNREAD_LOOK_SECONDS
from proxy.transport.limits import client_of

SIZE = 16
"""Descriptors in reserve."""


class DescriptorReserve:
    """Open descriptors that are closed one by one to make room; listeners for clients wait until it is full again."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._kept: list[int] = []
        self.refill()

    def lend(self) -> bool:
        """Close one, so that something else can be opened; False if none is left."""
        if not self._kept:
            return False
        os.close(self._kept.pop())
        return True

    def refill(self) -> bool:
        """Open those that are missing, as far as the system allows; whether the reserve is full."""
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
"""Bytes that the system holds for a client on the same machine (Linux doubles it for its own use, and has a limit too).

Left to itself Linux lets 4 MiB wait for each. The processor that sends them is the one that receives them: what fits
into its caches costs a third less CPU time (1 to 4 clients on a blob of 64 MiB, measured). Many clients on one machine
pay for it with more wake-ups; across a network the caches decide nothing, and a long way needs large buffers.
"""
AT_ONCE = 128
"""Connections that are accepted before requests have their turn again ..."""
SHARE_AT_ONCE = 16
"""... but at most one for so many that are allowed: a new one has time to send its request before others replace it."""
PAUSE = 1.0
"""Seconds without accepting where the system has no descriptor or memory left for a connection."""
TLS_BUFFER = 16 * 1024
"""Bytes of a TLS connection's buffer for what clients send: requests are small. asyncio's own is 256 KiB."""

_SPENT = frozenset({errno.EMFILE, errno.ENFILE})
_logger = logging.getLogger(__name__)


def bound_send_buffer(accepted: socket.socket, host: str) -> None:
    """Let little wait for a client on this machine; all others keep what the system finds right."""
    address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    if (mapped or address).is_loopback:
        with contextlib.suppress(OSError):  # it is gone already
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LOCAL_BUFFER)


class _ListenerTls(SSLProtocol):
    """The TLS of a client's connection."""

    max_size: ClassVar[int] = TLS_BUFFER


class _Accepted:
    """An accepted connection that has no place yet; it waits for one as long as a request's head may take."""

    def __init__(self, site: "NodeSite", accepted: socket.socket, client: str) -> None:
        self.client = client
        self._site = site
        self._accepted = accepted
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Serve it."""
        self._end_wait()
        self._site.open(self._accepted, self.client)

    def wait(self) -> None:
        """Wait for a place, and give up in the end."""
        self._timer = self._site.loop.call_later(self._site.bounds.head_timeout, self.give_up)
        self._site.wait(self)

    def refuse(self) -> None:
        """Close it."""
        self._end_wait()
        self._site.bounds.refused.labels("limit").inc()
        self._accepted.close()

    def give_up(self) -> None:
        """Stop waiting."""
        self._site.bounds.connections.withdraw(self)
        self.refuse()

    def _end_wait(self) -> None:
        self._site.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()


class NodeSite(web.BaseSite):
    """Accepts the connections of one listener.

    asyncio's own server has no bound on connections, counts none in their handshake, and without descriptors writes
    hundreds of lines a second into the log. `is_privileged` means that it may use the reserve of descriptors.
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
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._node_server = server
        self.bounds = server.bounds
        self.waiting: set[_Accepted] = set()
        self._listening = listening
        self._reserve = reserve
        self._is_privileged = is_privileged
        self._at_once = min(max(self.bounds.connections.limit // SHARE_AT_ONCE, 1), AT_ONCE)
        self._tls = tls
        self.loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """What it listens on."""
        return str(self._listening.getsockname())

    async def start(self) -> None:
        """Accept from now on."""
        await super().start()
        self._listening.settimeout(0)
        self._resume()

    async def stop(self) -> None:
        """Accept no more, and end the handshakes that are under way."""
        if self._pause is not None:
            self._pause.cancel()
        self.loop.remove_reader(self._listening)
        self._listening.close()
        if self._look is not None:
            self._look.cancel()
        for accepted in tuple(self.waiting):
            accepted.give_up()
        for opening in tuple(self._opening):
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await super().stop()

    def wait(self, accepted: _Accepted) -> None:
        """Have a connection wait for a place; meanwhile it is looked at what clients read."""
        self.waiting.add(accepted)
        if self._look is None:
            self._look = self.loop.call_later(0, self._cut_unread)

    def _cut_unread(self) -> None:
        self._look = None
        self.bounds.connections.cut_unread(self.loop.time())
        if self.waiting:
            self._look = self.loop.call_later(UNREAD_LOOK_SECONDS, self._cut_unread)

    def _resume(self) -> None:
        self._pause = None
        self.loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                accepted, address = self._accepted()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(error)
                return
            if not self._reserve.refill() and not self._is_privileged:
                accepted.close()
                self._reserve.refill()
                self._rest(OSError(errno.EMFILE, "the last descriptors are kept for the operator's ports"))
                return
            accepted.settimeout(0)
            bound_send_buffer(accepted, str(address[0]))
            self.bounds.connections.admit(_Accepted(self, accepted, client_of(str(address[0]))))

    def _accepted(self) -> tuple[socket.socket, tuple[object, ...]]:
        """The next connection; raises OSError."""
        while True:
            try:
                return self._listening.accept()
            except OSError as error:
                # Another thread may take the descriptor that becomes free: then one more is lent.
                if error.errno not in _SPENT or not self._is_privileged or not self._reserve.lend():
                    raise

    def _rest(self, error: OSError) -> None:
        """Leave the others who wait to the system for a while."""
        self.bounds.refused.labels("system").inc()
        _logger.error("no connection can be accepted for %.0f s: %s", PAUSE, error.strerror)
        self.loop.remove_reader(self._listening)
        self._pause = self.loop.call_later(PAUSE, self._resume)

    def open(self, accepted: socket.socket, client: str) -> None:
        """Serve a connection that has a place."""
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
            _logger.debug("a handshake failed: %s", error)
            self._close(accepted, connection)
        except BaseException:
            self._close(accepted, connection)
            raise

    async def _shake_hands(self, accepted: socket.socket, connection: NodeConnection, tls: ssl.SSLContext) -> None:
        """What `connect_accepted_socket` does for TLS, with smaller buffers and a transport to cut meanwhile."""
        done: asyncio.Future[None] = self.loop.create_future()
        limit = self.bounds.head_timeout
        secured = _ListenerTls(
            self.loop,
            connection,
            tls,
            done,
            server_side=True,
            ssl_handshake_timeout=limit,  # type: ignore[arg-type] # as the loop passes it, parts of seconds too
            ssl_shutdown_timeout=limit,
        )
        connection.raw_transport, _ = await self.loop.connect_accepted_socket(lambda: secured, accepted)
        connection.begin_handshake()
        await done
        if connection.transport is None:  # it was cut during the handshake, or is lost already
            connection.leave()

    @staticmethod
    def _close(accepted: socket.socket, connection: NodeConnection) -> None:
        connection.leave()
        if connection.raw_transport is not None:
            connection.raw_transport.abort()
        accepted.close()
