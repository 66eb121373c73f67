"""A node as far as the wire goes: one request per connection, every byte of the answer seen."""

import asyncio
import hashlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.canaries import assert_no_secret

NEVER_TO_NODES = frozenset({401, 408, 429})
"""Statuses that containerd answers with its own token dance, or by sending the request again at once, six times."""
REASON_LIMIT = 160
WITHIN = 30.0
"""Seconds after which whatever a test awaits counts as hanging."""
SLACK = 4.0
"""Seconds that an answer may come after its budget, for machines that are busy."""
PIECE = 256 * 1024
LINES_LIMIT = 128 * 1024

HeaderLines = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Got:
    """One answer; `whole` tells whether it ended as its framing says, so that a node would take it for complete."""

    status: int
    reason: str
    lines: HeaderLines
    body: bytes = field(repr=False)
    size: int
    sha256: str
    whole: bool

    def header(self, name: str) -> str | None:
        """The value of a header that stands there at most once."""
        values = [value for key, value in self.lines if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    @property
    def error(self) -> dict[str, Any]:
        """The one error of the body."""
        errors = json.loads(self.body)["errors"]
        assert len(errors) == 1
        found: dict[str, Any] = errors[0]
        return found

    @property
    def code(self) -> str:
        """The code of the error."""
        return str(self.error["code"])


@dataclass(frozen=True, slots=True)
class Budgets:
    """How long whole answers may take in these tests, in seconds."""

    manifest: float = WITHIN
    blob: float = WITHIN

    def of(self, target: str) -> float:
        """What holds for a target."""
        return (self.blob if "/blobs/" in target else self.manifest) + SLACK


class NodeClient:
    """Sends requests to a proxy and holds every answer to the rules that hold for all of them."""

    def __init__(
        self,
        address: str,
        budgets: Budgets | None = None,
        *,
        may_be_challenged: bool = False,
        tls: ssl.SSLContext | None = None,
        source: str | None = None,
    ) -> None:
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self._budgets = budgets or Budgets()
        self._may_be_challenged = may_be_challenged
        self._tls = tls
        self._source = source

    def over(self, tls: ssl.SSLContext) -> "NodeClient":
        """The same node, over TLS."""
        return self._changed(tls, self._source)

    def at(self, source: str) -> "NodeClient":
        """A node at another address, such as 127.0.0.2."""
        return self._changed(self._tls, source)

    def _changed(self, tls: ssl.SSLContext | None, source: str | None) -> "NodeClient":
        address = f"{self.host}:{self.port}"
        return NodeClient(address, self._budgets, may_be_challenged=self._may_be_challenged, tls=tls, source=source)

    async def get(self, target: str, *headers: tuple[str, str], keep_body: bool = True) -> Got:
        """GET; without `keep_body` the bytes are counted and hashed only."""
        return await self.send("GET", target, *headers, keep_body=keep_body)

    async def head(self, target: str, *headers: tuple[str, str]) -> Got:
        """HEAD."""
        return await self.send("HEAD", target, *headers)

    async def send(
        self, method: str, target: str, *headers: tuple[str, str], body: bytes = b"", keep_body: bool = True
    ) -> Got:
        """Send one request and read its answer to the end, which must come within the budget."""
        async with (
            asyncio.timeout(self._budgets.of(target)),
            self.opened(method, target, *headers, body=body) as (reader, _),
        ):
            got = await read_answer(reader, method, keep_body=keep_body)
        check(got, method, may_be_challenged=self._may_be_challenged)
        return got

    @asynccontextmanager
    async def opened(
        self, method: str, target: str, *headers: tuple[str, str], body: bytes = b"", receive_buffer: int | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection on which a request has been sent and whose answer is still to be read."""
        names = {name.lower() for name, _ in headers}
        lines = [f"{method} {target} HTTP/1.1"]
        if "host" not in names:
            lines.append(f"Host: {self.host}:{self.port}")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers]
        async with self.connected(receive_buffer) as (reader, writer):
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            yield reader, writer

    @asynccontextmanager
    async def connected(
        self, receive_buffer: int | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection on which nothing has been sent yet."""
        reader, writer = await self.connect(receive_buffer)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def connect(self, receive_buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; the kernel takes so many bytes for a reader that does not read."""
        local = None if self._source is None else (self._source, 0)
        if receive_buffer is None:
            return await asyncio.open_connection(self.host, self.port, limit=2 * PIECE, ssl=self._tls, local_addr=local)
        connection = socket.socket()
        try:
            if local is not None:
                connection.bind(local)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, (self.host, self.port))
            name = self.host if self._tls is not None else None
            return await asyncio.open_connection(
                sock=connection, limit=receive_buffer, ssl=self._tls, server_hostname=name
            )
        except BaseException:
            connection.close()
            raise


def check(got: Got, method: str, *, may_be_challenged: bool = False) -> None:
    """What holds for every answer to a node (DESIGN 4.1, 4.6, 4.9); the listener may send a challenge."""
    is_challenged = may_be_challenged and got.status == 401
    assert is_challenged or got.status not in NEVER_TO_NODES, got
    assert (got.header("WWW-Authenticate") is not None) == is_challenged
    assert got.header("Content-Encoding") is None
    assert got.header("Docker-Distribution-Api-Version") == "registry/2.0"
    assert got.reason.isascii()
    assert got.reason.isprintable()
    assert 0 < len(got.reason) <= REASON_LIMIT
    assert_no_secret(got.reason, *(f"{name}: {value}" for name, value in got.lines))
    if got.status < 400:
        return
    assert got.header("Content-Type") == "application/json"
    assert got.whole
    if method != "HEAD":
        assert got.error.keys() == {"code", "message", "detail"}
        assert got.error["detail"]["requestId"]
        assert got.reason[:150] == got.error["message"][:150]
        assert_no_secret(got.body.decode())


async def read_head(reader: asyncio.StreamReader) -> tuple[int, str, HeaderLines]:
    """The status, the reason phrase and the headers."""
    version, status, reason = (await _line(reader)).split(" ", 2)
    assert version == "HTTP/1.1"
    lines: list[tuple[str, str]] = []
    while line := await _line(reader):
        name, _, value = line.partition(":")
        lines.append((name, value.strip()))
    return int(status), reason, tuple(lines)


async def read_answer(reader: asyncio.StreamReader, method: str, *, keep_body: bool = True) -> Got:
    """A whole answer, or what there is of one whose connection breaks."""
    status, reason, lines = await read_head(reader)
    kept, digest, size, whole = bytearray(), hashlib.sha256(), 0, True
    try:
        async for piece in _pieces(reader, lines, bodiless=method == "HEAD"):
            size += len(piece)
            digest.update(piece)
            if keep_body:
                kept += piece
    except (asyncio.IncompleteReadError, ConnectionError):
        whole = False
    return Got(status, reason, lines, bytes(kept), size, f"sha256:{digest.hexdigest()}", whole)


async def _pieces(reader: asyncio.StreamReader, lines: HeaderLines, *, bodiless: bool) -> AsyncIterator[bytes]:
    headers = {name.lower(): value for name, value in lines}
    if bodiless:
        assert "transfer-encoding" not in headers
        return
    if headers.get("transfer-encoding") == "chunked":
        while length := int(await _line(reader), 16):
            async for piece in _exactly(reader, length):
                yield piece
            await _line(reader)
        await _line(reader)
        return
    async for piece in _exactly(reader, int(headers["content-length"])):
        yield piece


async def _exactly(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    while length:
        piece = await reader.read(min(length, PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(piece)
        yield piece


async def _line(reader: asyncio.StreamReader) -> str:
    line = await reader.readuntil(b"\r\n")
    return line[:-2].decode("ascii")
