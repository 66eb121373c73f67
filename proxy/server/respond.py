"""Responses to nodes: exact headers, whole bodies, streams that are aborted if incomplete."""

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
from proxy.server.listener.limits import InFlight
from proxy.server.pace import ReadRate, SlowClientWatch
from proxy.server.record import RequestRecord
from proxy.server.send import SpanSender
from proxy.store.blobs import StoreError
from proxy.upstream.body import BodyBroken

_RESET, _USUAL = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


def ends_with_connection(request: web.BaseRequest, length: int | None) -> bool:
    """Whether only the end of the connection delimits a body of this length (None: unknown)."""
    return length is None and request.version < HttpVersion11


def reset_on_close(transport: asyncio.Transport | None) -> None:
    """Make every later close of the connection a reset."""
    _set_linger(transport, _RESET)


async def end_properly(request: web.BaseRequest, stall: float) -> None:
    """Make a close normal again once the kernel has the whole body; raises TimeoutError after `stall` seconds."""
    transport = request.transport
    if transport is not None:
        transport.set_write_buffer_limits(high=1, low=0)  # with 0 a TLS connection never drains
        async with asyncio.timeout(stall):
            await request.writer.drain()
    _set_linger(transport, _USUAL)


def _set_linger(transport: asyncio.Transport | None, value: bytes) -> None:
    connection: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):  # already closed
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


def cut_reason(request: NodeRequest, in_flight: InFlight) -> str:
    """Why the response to a cancelled request is aborted."""
    return "slow_client" if request.cut_for == "unread" else in_flight.cut_reason


ALWAYS = {"Docker-Distribution-Api-Version": "registry/2.0", "Server": "scope-proxy"}
"""Docker and older clients require the API version header; `Server` hides the library and its version."""

_logger = logging.getLogger(__name__)


class _Whole(web.StreamResponse):
    """A response whose headers are sent together with its first bytes."""

    _send_headers_immediately = False


class Responder:
    """Writes the response to one request."""

    def __init__(
        self,
        request: NodeRequest,
        record: RequestRecord,
        client_stall: float,
        bodies: HeldBodies,
        in_flight: InFlight,
        *,
        read_rate: ReadRate,
    ) -> None:
        self._request = request
        self._record = record
        self._client_stall = client_stall
        self._bodies = bodies
        self._in_flight = in_flight
        self._read_rate = read_rate
        self._begun: web.StreamResponse | None = None
        self.close_after = False
        """Whether the connection closes after the response."""

    @property
    def has_begun(self) -> bool:
        """Whether a response was started: then no other response may follow, even on failure."""
        return self._begun is not None

    async def whole(
        self,
        content: bytes | None,
        headers: Mapping[str, str],
        *,
        length: int | None = None,
        result: CacheResult | None = None,
    ) -> web.StreamResponse:
        """Send a 200 response; without content only headers, for HEAD, with `length` as Content-Length.

        `result` is the cache result of a manifest, a label of latencies and bytes.
        Raises TooManyRequests if too many clients do not read large responses.
        """
        if result is not None:
            self._note_result(result)
            self._note_first_byte()
        if content is None:
            return await self._send(HTTPStatus.OK, None, None, headers, length)
        return await self._held(HTTPStatus.OK, content, headers)

    async def error(self, error: RegistryError, request_id: str) -> web.StreamResponse:
        """Send the error as JSON, shortened in the reason phrase. Never 408 or 429; 401 only with our own challenge.

        If a response was started, abort the connection instead.
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
        """Send a blob, chunk by chunk; on failure, abort so that the client does not take the body for complete."""
        status = HTTPStatus.PARTIAL_CONTENT if blob.span else HTTPStatus.OK
        self._note_result(blob.way)
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
        except Exception as error:  # noqa: BLE001 - the response was started
            if watch.has_cut:
                self._cut("slow_client", "")
            else:
                self._cut_for(error)
        except BaseException:  # aiohttp raises CancelledError when the connection is lost
            self._cut("slow_client" if watch.has_cut else cut_reason(self._request, self._in_flight), "")
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
            raise BodyBroken(f"sent {self._record.sent} of {blob.length} bytes")
        await response.write_eof()
        if is_delimited_by_close:
            await end_properly(self._request, self._client_stall)

    async def _held(self, status: int, content: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send content from memory; large content counts towards the memory limit until the client has read it."""
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
        except Exception as error:  # noqa: BLE001 - the response was started
            self._cut_for(error)
        except BaseException:
            self._cut(cut_reason(self._request, self._in_flight), "")
            raise
        return response

    async def _send_body(self, content: bytes) -> None:
        """Send headers and content piece by piece, each with a time limit for a client that does not read."""
        writer = self._request.writer
        if len(content) <= SMALL_BODY:
            pieces: Iterable[bytes | memoryview] = (content,)
        else:
            pieces = (memoryview(content)[start : start + SMALL_BODY] for start in range(0, len(content), SMALL_BODY))
        for piece in pieces:
            await writer.write(piece, drain=False)  # type: ignore[call-arg] # `_drain` limits the wait
            self._record.sent += len(piece)
            await self._drain()

    def _note_result(self, result: CacheResult) -> None:
        self._record.cache = result.value

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
        self._record.digest = headers.get("Docker-Content-Digest", "")
        self._begun = response
        return response

    async def _drain(self) -> None:
        """Wait until little is buffered: responses to pipelined requests must not pile up unread."""
        if self._request.protocol.writing_paused:
            async with asyncio.timeout(self._client_stall):
                await self._request.writer.drain()

    async def _write(self, response: web.StreamResponse, chunk: bytes | memoryview) -> None:
        """Send a chunk; raises TimeoutError if the client makes no progress."""
        async with asyncio.timeout(self._client_stall):
            await response.write(chunk)
        self._record.sent += len(chunk)

    def _cut_for(self, error: Exception) -> None:
        """Abort the connection because of an error."""
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
        """Abort the connection: the client sees a short or unterminated body, or a reset."""
        if self._request.transport is not None:
            self._request.transport.abort()  # first: nothing below may keep the connection open
        self._record.aborted = reason
        if message:
            self._record.error = message
            _logger.error("cut %s: %s", self._record.path, message)


def manifest_headers(manifest: Manifest) -> dict[str, str]:
    """The headers of a manifest; a stale one has a Warning header (RFC 7234, section 5.5)."""
    descriptor = manifest.descriptor
    headers = {
        "Content-Type": descriptor.media_type,
        "Docker-Content-Digest": descriptor.digest.text,
        "ETag": f'"{descriptor.digest.text}"',
        "X-Cache": manifest.way.value,
    }
    if manifest.age is not None:
        headers["Age"] = str(int(manifest.age))
    if manifest.way is CacheResult.STALE:
        headers["Warning"] = '110 scope-proxy "Response is Stale"'
    return headers


def blob_headers(digest: str, blob: Blob | BlobHead) -> dict[str, str]:
    """The headers of a blob or of a range of it."""
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
