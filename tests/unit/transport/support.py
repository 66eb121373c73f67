"""A server that records whole requests, and sessions to reach it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from textwrap import dedent

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from proxy.config.address import Origin
from proxy.config.load import parse_config
from proxy.config.model import Config
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.session import SESSION_LIMITS, Outgoing, SessionLimits, Sessions, load_tls

NO_PROXIES = ForwardProxies({}, ())
SECRETS = {"Authorization": "Bearer s3cret", "Cookie": "s3cret", "Proxy-Authorization": "s3cret", "X-Auth": "s3cret"}
PLAIN = {"Accept": "a/b", "Range": "bytes=0-1", "If-Range": "tag"}


@dataclass(slots=True)
class Server:
    """Answers each path as configured, else 200, and keeps what it was sent."""

    answers: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    requests: list[web.BaseRequest] = field(default_factory=list)
    url: str = ""
    body: str = "content"

    @property
    def origin(self) -> Origin:
        return Origin.parse(self.url)

    @property
    def headers(self) -> list[Mapping[str, str]]:
        """The headers of all requests, in order."""
        return [request.headers for request in self.requests]

    def redirect(self, path: str, location: str, status: int = 307) -> None:
        """Answer a path with a redirect."""
        self.answers[path] = status, {"Location": location}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.requests.append(request)
        status, headers = self.answers.get(request.path, (200, {}))
        return web.Response(status=status, headers=headers, text=self.body)


class Names(AbstractResolver):
    """In place of the system's resolver: each look-up takes the next answer."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._answers.pop(0)
        ]

    async def close(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A server on a port of its own."""
    server = Server()
    runner = web.ServerRunner(web.Server(server.handle, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}"
        yield server
    finally:
        await runner.cleanup()


def config(text: str = "") -> Config:
    """A configuration with this in it."""
    return parse_config(f"version: 1\n{dedent(text)}", "c.yaml").config


@asynccontextmanager
async def sessions(
    text: str = "",
    proxies: ForwardProxies = NO_PROXIES,
    *,
    limits: SessionLimits = SESSION_LIMITS,
    lookups: AbstractResolver | None = None,
) -> AsyncIterator[Sessions]:
    """Sessions for a configuration with this in it; to read it blocks, so a thread does."""
    settings = await asyncio.to_thread(config, text)
    tls = await asyncio.to_thread(load_tls, settings)
    async with Sessions(settings, tls, proxies, limits=limits, lookups=lookups) as opened:
        yield opened


def outgoing(url: str, headers: Mapping[str, str] | None = None) -> Outgoing:
    """A GET of a URL that the configuration names."""
    return Outgoing("GET", URL(url, encoded=True), Origin.parse(url), CIMultiDict(headers or {}), ("u", "blob"))
