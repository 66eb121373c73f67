"""Answers to nodes: exact headers, whole bodies, streams that are cut when they are not complete."""

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from http import HTTPStatus

from aiohttp import HttpVersion11, web

from proxy.oci.descriptor import BLOB
from proxy.oci.errors import RangeInvalid, RegistryError, Unauthorized, Unsupported
from proxy.pull.blobs.live import Blob, BlobHead, CacheResult, ContentSpan, DigestMismatch
from proxy.pull.manifests.fetch import Manifest
from proxy.server.listener.framing import NodeRequest
from proxy.server.listener.held_bodies import SMALL_BODY, HeldBodies
from proxy.server.listener.limits import Activity
from proxy.server.pace import ReadRate, SlowClientWatch
from proxy.server.record import RequestRecord
from proxy.server.send import SpanSender
from proxy.store.blobs import StoreError
from proxy.upstream.body import BodyBroken

_RESET, _USUAL = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


def ends_with_connection(request: web.BaseRequest, length: int | None) -> bool:
    """Whether a body of this length, if it has one, has no other end than that of the connection."""
    return length is None and request.version < HttpVersion11


def reset_on_close(transport: asyncio.Transport | None) -> None:
    """Let the connection be reset by whatever closes it from now on."""
    _set_linger(transport, _RESET)


async def end_properly(request: web.BaseRequest, stall: float) -> None:
    """Let the connection end as usual, once the system has all of the body; raises TimeoutError after `stall` s."""
    transport = request.transport
    if transport is not None:
        transport.set_write_buffer_limits(high=1, low=0)  # with 0 a connection with TLS is never through
        async with asyncio.timeout(stall):
            await request.writer.drain()
    _set_linger(transport, _USUAL)


def _set_linger(transport: asyncio.Transport | None, value: bytes) -> None:
    connection: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):  # it is closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


def reason_of_end(request: NodeRequest, activity: Activity) -> str:
    """Why a request is cancelled."""
    return "slow_client" if request.cut_for == "unread" else activity.reason_of_cut


ALWAYS = {"Docker-Distribution-Api-Version": "registry/2.0", "Server": "scope-proxy"}
"""Docker and older clients take a server without the version for no registry; ours is nobody's business."""

_logger = logging.getLogger(__name__)


class _Whole(web.StreamResponse):
    """An answer whose headers wait for its first bytes: they go out together."""

    _send_headers_immediately = False


class Responder:
    """Writes the answer to one request."""

    def __init__(
        self,
        request: NodeRequest,
        record: RequestRecord,
        client_stall: float,
        bodies: HeldBodies,
        activity: Activity,
        *,
        read_rate: ReadRate,
    ) -> None:
        self._request = request
        self._record = record
        self._client_stall = client_stall
        self._bodies = bodies
        self._activity = activity
        self._read_rate = read_rate
        self._begun: web.StreamResponse | None = None
        self.close_after = False
        """Whether the connection ends with the answer."""

    @property
    def has_begun(self) -> bool:
        """Whether an answer was handed to the connection: then no other one may follow, whatever fails."""
        return self._begun is not None

    async def whole(
        self,
        content: bytes | None,
        headers: Mapping[str, str],
        *,
        length: int | None = None,
        way: CacheResult | None = None,
    ) -> web.StreamResponse:
        """An answer of 200; without content it has the headers of a HEAD, `length` among them.

        `way` is that of a manifest: latencies and bytes are counted by it.
        Raises TooManyRequests where too many clients do not read such answers.
        """
        if way is not None:
            self._note_way(way)
            self._note_first_byte()
        if content is None:
            return await self._send(HTTPStatus.OK, None, None, headers, length)
        return await self._held(HTTPStatus.OK, content, headers)

    async def error(self, error: RegistryError, request_id: str) -> web.StreamResponse:
        """The error as JSON, in short as the reason phrase. Never 408 or 429; 401 only with a challenge of our own.

        Where an answer has begun the connection is cut instead.
        """
        if self._begun is not None:
            self._cut("internal", error.reason)
            return self._begun
        headers = {"Content-Type": "application/json"}
        if error.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(error.retry_after)))
        if isinstance(error, Unauthorized):
            headers["WWW-Authenticate"] = error.challenge
        if isinstance(error, Unsupported):
            headers["Allow"] = "GET, HEAD"
        if isinstance(error, RangeInvalid) and error.size is not None:
            headers["Content-Range"] = f"bytes */{error.size}"
        self._record.cache = ""
        self._record.error = f"{error.code}: {error.reason}"
        body = error.body(request_id)
        return await self._send(error.status, error.reason_phrase, body, headers, len(body))

    async def stream(self, blob: Blob, headers: Mapping[str, str]) -> web.StreamResponse:
        """A blob, chunk by chunk; what breaks off is cut, so that nobody takes it for complete."""
        status = HTTPStatus.PARTIAL_CONTENT if blob.span else HTTPStatus.OK
        self._note_way(blob.way)
        if blob.content is not None:
            self._note_first_byte()
            return await self._held(status, blob.content, headers)
        response = self._prepared(web.StreamResponse(status=status), headers, blob.length)
        watch = SlowClientWatch(self._request, self._read_rate, blob.reclaim)
        try:
            try:
                await self._send_blob(response, blob, watch)
            finally:
                watch.end()
        except StoreError as error:
            blob.distrust()
            self._cut("store", str(error))
        except Exception as error:  # noqa: BLE001 - the answer has begun
            if watch.has_cut:
                self._cut("slow_client", "")
            else:
                self._cut_for(error)
        except BaseException:  # CancelledError is how aiohttp tells that the connection was lost
            self._cut("slow_client" if watch.has_cut else reason_of_end(self._request, self._activity), "")
            raise
        return response

    async def _send_blob(self, response: web.StreamResponse, blob: Blob, watch: SlowClientWatch) -> None:
        is_delimited_by_close = ends_with_connection(self._request, blob.length)
        if is_delimited_by_close:
            response.force_close()
            reset_on_close(self._request.transport)
        await response.prepare(self._request)
        sender = SpanSender(self._request, response, self._client_stall)
        async with aclosing(blob.pieces()) as chunks:
            async for piece in chunks:
                self._note_first_byte()
                if isinstance(piece, ContentSpan):
                    await sender.send(piece)
                    self._record.sent += piece.length
                else:
                    watch.write(len(piece))
                    await self._write(response, piece)
        if blob.length is not None and self._record.sent != blob.length:
            raise BodyBroken(f"{self._record.sent} of {blob.length} bytes were sent")
        await response.write_eof()
        if is_delimited_by_close:
            await end_properly(self._request, self._client_stall)

    async def _held(self, status: int, content: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send what is in memory; what is not small counts until the client has taken it."""
        if len(content) <= SMALL_BODY:
            return await self._send(status, None, content, headers, len(content))
        with self._bodies.holding(content, self._request.client, self._cut_unread):
            return await self._send(status, None, content, headers, len(content))

    async def _send(
        self, status: int, reason: str | None, content: bytes | None, headers: Mapping[str, str], length: int | None
    ) -> web.StreamResponse:
        response = self._prepared(_Whole(status=status, reason=reason), headers, length)
        sent = content if content is not None and self._request.method != "HEAD" else b""
        try:
            await response.prepare(self._request)
            await self._send_body(sent)
            await response.write_eof()
        except Exception as error:  # noqa: BLE001 - the answer has begun
            self._cut_for(error)
        except BaseException:
            self._cut(reason_of_end(self._request, self._activity), "")
            raise
        return response

    async def _send_body(self, content: bytes) -> None:
        """Send headers and content; who does not take them is waited for piece by piece, and not for long."""
        writer = self._request.writer
        if len(content) <= SMALL_BODY:
            pieces: Iterable[bytes | memoryview] = (content,)
        else:
            pieces = (memoryview(content)[start : start + SMALL_BODY] for start in range(0, len(content), SMALL_BODY))
        for piece in pieces:
            await writer.write(piece, drain=False)  # type: ignore[call-arg] # waiting has its bound below
            self._record.sent += len(piece)
            await self._taken()

    def _note_way(self, way: CacheResult) -> None:
        self._record.cache = way.value

    def _note_first_byte(self) -> None:
        if not self._record.first_byte:
            self._record.first_byte = time.perf_counter()

    def _prepared(
        self, response: web.StreamResponse, headers: Mapping[str, str], length: int | None
    ) -> web.StreamResponse:
        response.headers.update(ALWAYS, **headers)
        if length is not None:
            response.content_length = length
        if self.close_after:
            response.force_close()
        self._record.status = response.status
        self._begun = response
        return response

    async def _taken(self) -> None:
        """Wait until little is left in memory: pipelined requests must not heap up answers that nobody reads."""
        if self._request.protocol.writing_paused:
            async with asyncio.timeout(self._client_stall):
                await self._request.writer.drain()

    async def _write(self, response: web.StreamResponse, chunk: bytes | memoryview) -> None:
        """Send a chunk to a client that takes it; raises TimeoutError for one that makes no progress."""
        async with asyncio.timeout(self._client_stall):
            await response.write(chunk)
        self._record.sent += len(chunk)

    def _cut_for(self, error: Exception) -> None:
        """Break the connection, whatever has failed."""
        match error:
            case DigestMismatch():
                self._cut("digest_mismatch", str(error))
            case BodyBroken() | RegistryError():
                self._cut("upstream", str(error))
            case StoreError():
                self._cut("store", str(error))
            case ConnectionError() | TimeoutError():
                self._cut("client_gone", "")
            case _:
                self._cut("internal", f"scope-proxy failed, see its log: {type(error).__name__}")
                _logger.error("a bug: %s %s", self._record.method, self._record.path, exc_info=error)

    def _cut_unread(self) -> None:
        self._request.cut_for = "unread"
        self._cut("slow_client", "")

    def _cut(self, reason: str, message: str) -> None:
        """Break the connection: a length not reached, a chunked body not ended, or a reset shows that there is more."""
        if self._request.transport is not None:
            self._request.transport.abort()  # first: nothing below may keep it open
        self._record.aborted = reason
        if message:
            self._record.error = message
            _logger.error("cut %s: %s", self._record.path, message)


def manifest_headers(manifest: Manifest) -> dict[str, str]:
    """The headers of a manifest; a stale one says so (RFC 9111, section 5.5, which warnings are taken from)."""
    found = manifest.descriptor
    headers = {
        "Content-Type": found.media_type,
        "Docker-Content-Digest": found.digest.text,
        "ETag": f'"{found.digest.text}"',
        "X-Cache": manifest.way.value,
    }
    if manifest.age is not None:
        headers["Age"] = str(int(manifest.age))
    if manifest.way is CacheResult.STALE:
        headers["Warning"] = '110 scope-proxy "Response is Stale"'
    return headers


def blob_headers(digest: str, blob: Blob | BlobHead) -> dict[str, str]:
    """The headers of a blob, or of a part of it."""
    headers = {
        "Content-Type": BLOB,
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "X-Cache": blob.way.value,
    }
    if isinstance(blob, Blob) and blob.span is not None:
        headers["Content-Range"] = str(blob.span)
    return headers
