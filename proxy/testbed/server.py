"""A small HTTP server for one event loop: it records requests and sends answers exactly as they are written."""

import asyncio
import itertools
import re
import ssl
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from proxy.testbed.answer import Answer
from proxy.testbed.record import Call, Kind, Record, seen

_BODILESS = frozenset({204, 304})


class Sent(web.StreamResponse):
    """Reports to aiohttp that the response was sent, and whether the connection may stay open."""

    def __init__(self, *, stay: bool) -> None:
        super().__init__()
        self._stay = stay

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open."""
        return self._stay

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - aiohttp's signature
        """Nothing is left to send."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


class Wire:
    """The connection of one request, on which an answer can be sent in steps."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request

    async def send(self, answer: Answer) -> web.StreamResponse:
        """Send a whole answer."""
        await self.head(answer)
        await self.body(answer, 0, self.length(answer))
        return await self.finish(answer)

    def length(self, answer: Answer) -> int:
        """Bytes of body that this request gets: none for HEAD."""
        return 0 if self._bodiless(answer) else answer.end - answer.start

    async def head(self, answer: Answer) -> None:
        """Send the status line and the headers now; without a length the body goes out in chunks."""
        headers = CIMultiDict(answer.headers)
        if not ("Content-Length" in headers or self._bodiless(answer) or _closes(answer)):
            headers["Transfer-Encoding"] = "chunked"
            self._request.writer.enable_chunking()
        await self._request.writer.write_headers(f"HTTP/1.1 {answer.status} {answer.phrase}", headers)
        self._request.writer.send_headers()

    async def body(self, answer: Answer, start: int, stop: int) -> None:
        """Send the bytes of the body from `start` up to `stop`, counted in the body that goes out."""
        for piece in answer.content.pieces(answer.start + start, answer.start + stop):
            await self._request.writer.write(piece)

    async def finish(self, answer: Answer) -> web.StreamResponse:
        """End the body properly."""
        await self._request.writer.write_eof()
        return Sent(stay=self._request.keep_alive and not _closes(answer))

    def raw(self, data: bytes) -> None:
        """Send bytes outside of any framing."""
        if self._request.transport is not None:
            self._request.transport.write(data)

    def hang_up(self, *, reset: bool = False) -> web.StreamResponse:
        """Close the connection: what was written goes out first, or with `reset` may not."""
        transport = self._request.transport
        if transport is not None:
            transport.abort() if reset else transport.close()
        return Sent(stay=False)

    def _bodiless(self, answer: Answer) -> bool:
        return self._request.method == "HEAD" or answer.status in _BODILESS


def _closes(answer: Answer) -> bool:
    return answer.header("Connection").lower() == "close"


SHUTDOWN_SECONDS = 0.2
"""How long a request in flight may go on when the server stops."""

_ROUTE = re.compile(r"(?P<repository>.+)/(?P<kind>manifests|blobs|referrers|tags)/(?P<reference>.+)")
_KINDS: dict[str, Kind] = {"manifests": "manifest", "blobs": "blob", "referrers": "referrers", "tags": "tags"}


class RecordingServer(ABC):
    """Listens on 127.0.0.1, on a port that the system picks; use it with `async with`."""

    def __init__(self, *, root: str = "/v2", tls: ssl.SSLContext | None = None) -> None:
        self.record = Record()
        self.root = root.rstrip("/")
        self.url = ""  # scheme, host and port, once it runs
        self._tls = tls
        self._runner: web.ServerRunner | None = None
        self._numbers = itertools.count(1)
        self._connections: WeakKeyDictionary[asyncio.BaseTransport, tuple[int, int]] = WeakKeyDictionary()

    @abstractmethod
    def answer(self, call: Call) -> Answer:
        """What to answer to a request."""

    @abstractmethod
    def credential(self, call: Call) -> str:
        """Which credential a request carries, in words without a secret."""

    async def exchange(self, wire: Wire, call: Call) -> web.StreamResponse:
        """Answer one request: decide, record, send."""
        answer = self.answer(call)
        self.record.add(seen(call, self.credential(call), answer.status))
        return await wire.send(answer)

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"{'https' if self._tls else 'http'}://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.exchange(Wire(request), await self._read(request))

    async def _read(self, request: web.BaseRequest) -> Call:
        path, _, _ = request.raw_path.partition("?")
        kind, repository, reference = self._route(request.path)
        form = await request.post() if request.method == "POST" else {}
        connection, before = self._connection(request.transport)
        return Call(
            method=request.method,
            path=path,
            query=tuple(request.query.items()),
            kind=kind,
            repository=repository,
            reference=reference,
            headers=tuple(request.headers.items()),
            form=tuple((name, value) for name, value in form.items() if isinstance(value, str)),
            connection=connection,
            reused=before > 0,
        )

    def _connection(self, transport: asyncio.BaseTransport | None) -> tuple[int, int]:
        """The number of a connection and how many requests came on it before this one."""
        if transport is None:
            return 0, 0
        number, before = self._connections.get(transport) or (next(self._numbers), 0)
        self._connections[transport] = number, before + 1
        return number, before

    def _route(self, path: str) -> tuple[Kind, str, str]:
        if path in {self.root, f"{self.root}/"}:
            return "ping", "", ""
        match = _ROUTE.fullmatch(path.removeprefix(f"{self.root}/")) if path.startswith(f"{self.root}/") else None
        if match is None:
            return "other", "", ""
        return _KINDS[match["kind"]], match["repository"], match["reference"]
