"""Accepting connections: as many as there may be at one time, counted before their TLS handshake."""

import asyncio
import logging
import socket
import ssl

from aiohttp import web

from proxy.metrics import HTTP_CONNECTIONS_REFUSED
from proxy.server.connections import NodeServer
from proxy.transport.singleflight import Background

AT_ONCE = 128
"""Connections that are accepted before requests have their turn again."""
PAUSE = 1.0
"""Seconds without accepting where the system has no descriptor or memory left for a connection."""

_logger = logging.getLogger(__name__)


class NodeSite(web.BaseSite):
    """Accepts the connections of one listener.

    asyncio's own server has no bound on connections, counts none in their handshake, and without descriptors writes
    hundreds of lines a second into the log.
    """

    def __init__(
        self, runner: web.ServerRunner, server: NodeServer, listening: socket.socket, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._node_server = server
        self._listening = listening
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._background = Background()
        self._pause: asyncio.TimerHandle | None = None

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
        self._loop.remove_reader(self._listening)
        self._listening.close()
        await self._background.close()
        await super().stop()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(error)
                return
            self._admit(accepted)

    def _rest(self, error: OSError) -> None:
        """Leave the others who wait to the system for a while."""
        HTTP_CONNECTIONS_REFUSED.labels("system").inc()
        _logger.error("no connection can be accepted for %.0f s: %s", PAUSE, error.strerror)
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(PAUSE, self._resume)

    def _admit(self, accepted: socket.socket) -> None:
        if not self._node_server.gate.enter():
            HTTP_CONNECTIONS_REFUSED.labels("limit").inc()
            accepted.close()
            return
        accepted.settimeout(0)
        self._background.start(self._open(accepted))

    async def _open(self, accepted: socket.socket) -> None:
        connection = self._node_server()
        limit = self._node_server.head_timeout if self._tls is not None else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=limit,
                ssl_shutdown_timeout=limit,
            )
        except OSError as error:  # ssl.SSLError is one
            HTTP_CONNECTIONS_REFUSED.labels("handshake").inc()
            _logger.debug("a handshake failed: %s", error)
            connection.leave()
            accepted.close()
        except BaseException:
            connection.leave()
            accepted.close()
            raise
