"""Sends an answer exactly as it is written: no header added, no length corrected."""

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from proxy.demo.answer import Answer

_BODILESS = frozenset({204, 304})


class Sent(web.StreamResponse):
    """Tells aiohttp that the response has gone out, and whether the connection may stay open."""

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
