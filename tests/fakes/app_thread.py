"""An aiohttp application in a thread of its own: usable from tests with and without an event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from aiohttp import web

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0


@contextlib.contextmanager
def entered(server: contextlib.AbstractAsyncContextManager[object]) -> Iterator[None]:
    """Run an asynchronous context manager in a thread with a loop of its own."""
    ready, loop, ended = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def hold() -> None:
        async with server:
            ready.set()
            await ended.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(hold())

    thread = threading.Thread(target=run, name="server-thread", daemon=True)
    thread.start()
    try:
        assert ready.wait(START_TIMEOUT), "the server's thread did not start"
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(STOP_TIMEOUT)
        assert not thread.is_alive(), "the server's thread did not end"


@contextlib.contextmanager
def serving(app: web.Application) -> Iterator[str]:
    """Serve on a free loopback port and give the URL `http://127.0.0.1:<port>`."""
    server = _Server(app)
    thread = threading.Thread(target=server.run, name="app-thread", daemon=True)
    thread.start()
    try:
        assert server.ready.wait(START_TIMEOUT), "the server's thread did not start"
        yield server.url
    finally:
        server.stop()
        thread.join(STOP_TIMEOUT)
        assert not thread.is_alive(), "the server's thread did not end"


class _Server:
    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self.ready = threading.Event()
        self.url = ""

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)

    async def _serve(self) -> None:
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            self.ready.set()
            await self._ended.wait()
        finally:
            await runner.cleanup()
