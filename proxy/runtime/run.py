"""Start, serve, stop."""

import asyncio
import logging
import platform
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from proxy.config.loaded import Loaded
from proxy.metrics import BUILD_INFO
from proxy.runtime.assemble import assembled
from proxy.runtime.sockets import BACKLOG, Sockets, StartError, address_of, bind
from proxy.server.admin import admin_app
from proxy.server.app import node_app
from proxy.server.handlers import Handler
from proxy.version import VERSION

KEEP_ALIVE = 75.0
"""Seconds that a node's idle connection is kept."""
ADMIN_GRACE = 1.0
"""Seconds for requests to the admin port in flight, after SIGTERM."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Running:
    """A proxy that serves: where it listens, and whether it takes requests."""

    addresses: list[str] = field(default_factory=list)
    admin_address: str | None = None
    ready: bool = False


@asynccontextmanager
async def running(loaded: Loaded, sockets: Sockets | None = None) -> AsyncIterator[Running]:
    """Serve a configuration until the end of the block; raises StartError.

    The sockets are bound here unless they are given: workers share those of their parent.
    """
    state = Running()
    config = loaded.config
    BUILD_INFO.labels(VERSION, platform.python_version(), aiohttp.__version__).set(1)
    async with AsyncExitStack() as stack:
        if sockets is None:
            sockets = await asyncio.to_thread(bind, config)
        stack.callback(sockets.close)
        try:
            handler = Handler(await stack.enter_async_context(assembled(loaded)))
        except ValueError as error:
            raise StartError(str(error)) from error
        if sockets.admin is not None:
            state.admin_address = await _listen(stack, admin_app(lambda: state.ready), sockets.admin, ADMIN_GRACE)
        for bound in sockets.nodes:
            app = node_app(handler, config.timeouts.client_stall)
            state.addresses.append(await _listen(stack, app, bound, config.timeouts.shutdown_grace))
        state.ready = True
        yield state
        state.ready = False


async def serve(loaded: Loaded, sockets: Sockets | None = None) -> None:
    """Serve until SIGTERM or SIGINT; raises StartError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(loaded, sockets) as state:
        _logger.info("scope-proxy %s listens on %s", VERSION, ", ".join(state.addresses))
        if state.admin_address is not None:
            _logger.info("metrics and health on %s", state.admin_address)
        await stop.wait()
        _logger.info("stopping: requests in flight have %.0f s", loaded.config.timeouts.shutdown_grace)


async def _listen(stack: AsyncExitStack, app: web.Application, bound: socket.socket, grace: float) -> str:
    """Serve an application on a socket; its address."""
    address = address_of(bound)
    runner = web.AppRunner(
        app,
        access_log=None,  # our own line holds more
        handler_cancellation=True,  # who is gone waits for nothing
        keepalive_timeout=KEEP_ALIVE,
        shutdown_timeout=grace,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, bound, backlog=BACKLOG).start()
    return address


__all__ = ["Running", "StartError", "running", "serve"]
