"""Starts, serves and stops one process."""

import asyncio
import functools
import logging
import platform
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.observe.metrics import BUILD_INFO
from proxy.observe.tracing import TracingError, set_up_tracing
from proxy.runtime.generation import build_generation
from proxy.runtime.reload import ConfigSource, Reloader
from proxy.runtime.sockets import Sockets, StartError, address_of, bind, connections_within
from proxy.runtime.stop import Stop
from proxy.runtime.tuning import TUNING, Tuning
from proxy.runtime.upkeep import watch_lag
from proxy.server.admin import admin_server, metrics_server
from proxy.server.app import NodeSettings, node_server
from proxy.server.listener.accept import DescriptorReserve, NodeSite
from proxy.server.listener.connection import NodeServer
from proxy.server.listener.limits import InFlight, ProcessLimits
from proxy.server.listener.tls import listener_contexts, tls_problems
from proxy.server.pace import ReadRate
from proxy.server.refusals import Refusals
from proxy.server.status.collector import Snapshot, StatusCollector
from proxy.server.status.values import ListenerStatus, Reload
from proxy.transport.singleflight import Background
from proxy.transport.verification import verify_as_go
from proxy.version import VERSION

ADMIN_GRACE = 1.0
"""Seconds for admin requests in flight after SIGTERM."""

TRACING_SECONDS = 2.0
"""Seconds to send the last spans at shutdown."""
CUT_SECONDS = 0.5
"""Seconds for requests still in flight when the listeners close; the drain has waited for them before."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Running:
    """A running proxy: its addresses, its readiness, and its configuration."""

    reloader: Reloader
    in_flight: InFlight
    addresses: list[str] = field(default_factory=list)
    admin_address: str | None = None
    metrics_address: str | None = None
    ready: bool = False
    draining: bool = False
    contexts: Sequence[ssl.SSLContext | None] = ()
    """The TLS of each listener."""


@asynccontextmanager
async def running(
    loaded: Loaded,
    sockets: Sockets | None = None,
    origin: ConfigSource | None = None,
    bound: Config | None = None,
    tuning: Tuning = TUNING,
) -> AsyncIterator[Running]:
    """Serve a configuration until the end of the block; raises StartError.

    Binds the sockets unless they are passed: workers share those of their parent. Reloads from `origin` when the
    configuration changes. `bound` is the configuration that the sockets were bound for, if it is an older one.
    """
    BUILD_INFO.labels(VERSION, platform.python_version(), aiohttp.__version__).set(1)
    async with AsyncExitStack() as stack:
        if sockets is None:
            sockets = await asyncio.to_thread(bind, loaded.config)
        stack.callback(sockets.close)
        try:
            bound = bound or loaded.config
            contexts = await stack.enter_async_context(
                listener_contexts(bound.listeners, interval=tuning.server.tls_reload)
            )
            reloader = Reloader(await build_generation(loaded, bound, tuning=tuning), bound, origin)
        except ValueError as error:
            raise StartError(str(error)) from error
        stack.push_async_callback(reloader.close)
        watchers = Background()
        stack.push_async_callback(watchers.close)
        watchers.start(reloader.watch())
        watchers.start(watch_lag())
        state = Running(reloader, InFlight(), contexts=contexts)
        await _open_listeners(stack, state, sockets, tuning)
        state.ready = True
        yield state
        state.ready = False


async def _open_listeners(stack: AsyncExitStack, state: Running, sockets: Sockets, tuning: Tuning) -> None:
    """Open the admin listeners, then those for nodes."""
    config, refusals, reserve = state.reloader.bound, Refusals(), DescriptorReserve()
    stack.callback(reserve.close)
    connections = connections_within(config.limits.connections)
    limits = ProcessLimits.of(config.limits, connections, bodies=tuning.server.held_bodies)
    times, is_ready = config.timeouts, lambda: state.ready
    rate = ReadRate(config.limits.min_read_rate, times.slow_client)
    if sockets.admin is not None:
        collector = await stack.enter_async_context(_status_collector(state, config, refusals))
        admin = admin_server(is_ready, collector, times.request)
        state.admin_address = await _listen_for_admin(stack, admin, sockets.admin, reserve)
    if sockets.metrics is not None:
        metrics = metrics_server(is_ready, times.request)
        state.metrics_address = await _listen_for_admin(stack, metrics, sockets.metrics, reserve)
    for number, (bound, context) in enumerate(zip(sockets.nodes, state.contexts, strict=True)):
        enter = functools.partial(state.reloader.enter, number)
        settings = NodeSettings(
            enter, limits, state.in_flight, times.client_stall, times.request, rate, refusals, tuning.server.linger
        )
        server, address = node_server(settings), address_of(bound)
        runner = await _runner(stack, server, min(times.shutdown_grace, CUT_SECONDS))
        pause, buffer = tuning.server.accept_pause, tuning.server.local_buffer
        await NodeSite(runner, server, bound, reserve, context, pause=pause, local_buffer=buffer).start()
        state.addresses.append(address)


@asynccontextmanager
async def _status_collector(state: Running, bound: Config, refusals: Refusals) -> AsyncIterator[StatusCollector]:
    """The collector of the status page."""
    background = Background()
    try:
        yield StatusCollector(functools.partial(_snapshot, state, bound), refusals, background)
    finally:
        await background.close()


def _snapshot(state: Running, bound: Config) -> Snapshot:
    """The current state of the proxy; `bound` is the configuration whose listeners are open."""
    current, last = state.reloader.current, state.reloader.last
    configured = {listener.address: listener.clients for listener in current.loaded.config.listeners}
    listeners = tuple(
        ListenerStatus(address, listener.tls is not None, configured.get(listener.address, listener.clients).auth)
        for address, listener in zip(state.addresses, bound.listeners, strict=False)  # they are opened one by one
    )
    return Snapshot(
        loaded=current.loaded,
        endpoints=current.engine_part.value.endpoints,
        store=current.store_part.value if current.store_part is not None else None,
        listeners=listeners,
        ready=state.ready,
        draining=state.draining,
        in_flight=state.in_flight.count,
        reload=Reload(last.at, last.problems) if last is not None else None,
        workers=bound.workers,
        waiting=state.reloader.waiting,
        tls_problems=tls_problems(state.contexts),
        client_files=tuple(current.client_files.statuses()),
        rate_limits=current.engine_part.value.rate_limits,
    )


async def serve(
    loaded: Loaded, sockets: Sockets | None = None, origin: ConfigSource | None = None, bound: Config | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish pulls in flight; raises StartError.

    SIGHUP reloads the configuration.
    """
    stop = Stop()
    loop = asyncio.get_running_loop()
    end_tracing = await asyncio.to_thread(_begin_tracing, loaded.config)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.request)
    async with running(loaded, sockets, origin, bound) as state:
        loop.add_signal_handler(signal.SIGHUP, state.reloader.request)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # signals before the handler were held back
        _logger.info("scope-proxy %s listens on %s", VERSION, ", ".join(state.addresses))
        if state.admin_address is not None:
            _logger.info("status page, metrics and health on %s", state.admin_address)
        if state.metrics_address is not None:
            _logger.info("metrics and health on %s", state.metrics_address)
        await stop.requested.wait()
        state.ready, state.draining = False, True
        await stop.drain(state.in_flight, loaded.config.timeouts)
        state.in_flight.is_ending = True
    await _within(end_tracing, TRACING_SECONDS)


def _begin_tracing(config: Config) -> Callable[[], None]:
    """Start sending spans, if configured; returns the function that ends it. Raises StartError."""
    if config.tracing is None:
        return lambda: None
    tls = verify_as_go(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    try:
        return set_up_tracing(config.tracing.endpoint, config.tracing.sample_ratio, VERSION, tls)
    except TracingError as error:
        raise StartError(f"tracing: {error}") from error


async def _within(work: Callable[[], None], seconds: float) -> None:
    """Run blocking work and wait at most this long for it: an unreachable collector must not delay the exit."""
    thread = threading.Thread(target=work, daemon=True)  # asyncio.run would wait for a thread of the pool
    thread.start()
    await asyncio.to_thread(thread.join, seconds)


async def _listen_for_admin(
    stack: AsyncExitStack, server: NodeServer, bound: socket.socket, reserve: DescriptorReserve
) -> str:
    """Serve the admin port on a socket; returns the address."""
    address = address_of(bound)
    runner = await _runner(stack, server, ADMIN_GRACE)
    await NodeSite(runner, server, bound, reserve, is_privileged=True).start()
    return address


async def _runner(stack: AsyncExitStack, server: NodeServer, grace: float) -> web.ServerRunner:
    """A runner that closes the server's connections, with `grace` seconds for requests in flight."""
    runner = web.ServerRunner(server, shutdown_timeout=grace)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


__all__ = ["Running", "StartError", "running", "serve"]
