"""Start, serve, stop."""

import asyncio
import logging
import os
import platform
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from proxy.config.loaded import Loaded
from proxy.metrics import BUILD_INFO
from proxy.runtime.assemble import assembled
from proxy.server.admin import admin_app
from proxy.server.app import node_app
from proxy.version import VERSION

KEEP_ALIVE = 75.0
"""Seconds that a node's idle connection is kept."""
BACKLOG = 1024
"""Connections that may wait to be accepted."""

_logger = logging.getLogger(__name__)


class StartError(Exception):
    """The program cannot start; the message says why and what to do."""


@dataclass(slots=True)
class Running:
    """A proxy that serves: where it listens, and whether it takes requests."""

    addresses: list[str] = field(default_factory=list)
    admin_address: str | None = None
    ready: bool = False


@asynccontextmanager
async def running(loaded: Loaded) -> AsyncIterator[Running]:
    """Serve a configuration until the end of the block; raises StartError."""
    state = Running()
    config = loaded.config
    BUILD_INFO.labels(VERSION, platform.python_version(), aiohttp.__version__).set(1)
    async with AsyncExitStack() as stack:
        try:
            handler = await stack.enter_async_context(assembled(loaded))
        except ValueError as error:
            raise StartError(str(error)) from error
        if config.admin is not None:
            admin = admin_app(lambda: state.ready)
            state.admin_address = await _listen(stack, admin, config.admin.address, 1.0)
        for listener in config.listeners:
            app = node_app(handler, config.timeouts.client_stall)
            address = await _listen(stack, app, listener.address, config.timeouts.shutdown_grace)
            state.addresses.append(address)
        state.ready = True
        yield state
        state.ready = False


async def serve(loaded: Loaded) -> None:
    """Serve until SIGTERM or SIGINT; raises StartError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(loaded) as state:
        _logger.info("scope-proxy %s listens on %s", VERSION, ", ".join(state.addresses))
        if state.admin_address is not None:
            _logger.info("metrics and health on %s", state.admin_address)
        await stop.wait()
        _logger.info("stopping: requests in flight have %.0f s", loaded.config.timeouts.shutdown_grace)


async def _listen(stack: AsyncExitStack, app: web.Application, address: str, grace: float) -> str:
    """Serve an application on an address; the address with the port that it got."""
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(
        app,
        access_log=None,  # our own line holds more
        handler_cancellation=True,  # who is gone waits for nothing
        keepalive_timeout=KEEP_ALIVE,
        shutdown_timeout=grace,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host.strip("[]") or None, int(port), backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StartError(f"cannot listen on {address}: {reason}") from error
    return f"{host}:{site.port}"
