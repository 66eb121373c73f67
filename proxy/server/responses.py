"""Answers to nodes: exact headers, whole bodies, streams that are cut when they are not complete."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing

from aiohttp import web

from proxy.metrics import HTTP_ABORTED
from proxy.oci.descriptor import BLOB
from proxy.oci.errors import RangeInvalid, RegistryError, Unsupported
from proxy.pull.blob import Blob, DigestMismatch, Way
from proxy.pull.manifest import Manifest
from proxy.pull.progress import ContentSpan
from proxy.server.record import RequestRecord
from proxy.server.sending import SpanSender
from proxy.store.blobs import StoreError
from proxy.upstream.body import BodyBroken

ALWAYS = {"Docker-Distribution-Api-Version": "registry/2.0", "Server": "scope-proxy"}
"""Docker and older clients take a server without the version for no registry; ours is nobody's business."""

_logger = logging.getLogger(__name__)


class Responder:
    """Writes the answer to one request."""

    def __init__(self, request: web.Request, record: RequestRecord, client_stall: float) -> None:
        self._request = request
        self._record = record
        self._client_stall = client_stall

    async def whole(
        self, content: bytes | None, headers: Mapping[str, str], *, length: int | None = None
    ) -> web.StreamResponse:
        """An answer of 200; without content it has the headers of a HEAD, `length` among them."""
        return await self._send(200, None, content, headers, len(content) if content is not None else length)

    async def error(self, error: RegistryError, request_id: str) -> web.StreamResponse:
        """The error as JSON, in short as the reason phrase. Never 401, 408 or 429, and never a challenge."""
        headers = {"Content-Type": "application/json"}
        if error.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(error.retry_after)))
        if isinstance(error, Unsupported):
            headers["Allow"] = "GET, HEAD"
        if isinstance(error, RangeInvalid) and error.size is not None:
            headers["Content-Range"] = f"bytes */{error.size}"
        self._record.error = f"{error.code}: {error.reason}"
        body = error.body(request_id)
        return await self._send(error.status, error.reason_phrase, body, headers, len(body))

    async def stream(self, blob: Blob, headers: Mapping[str, str]) -> web.StreamResponse:
        """A blob, chunk by chunk; what breaks off is cut, so that nobody takes it for complete."""
        response = self._prepared(206 if blob.span else 200, None, headers, blob.length)
        try:
            await response.prepare(self._request)
            sender = SpanSender(self._request, response, self._client_stall)
            async with aclosing(blob.chunks()) as chunks:
                async for piece in chunks:
                    if isinstance(piece, ContentSpan):
                        await sender.send(piece)
                        self._record.sent += piece.length
                    else:
                        await self._write(response, piece)
            if blob.length is not None and self._record.sent != blob.length:
                raise BodyBroken(f"{self._record.sent} of {blob.length} bytes were sent")  # noqa: TRY301 - cut as all are
            await response.write_eof()
        except DigestMismatch as error:
            self._cut("digest_mismatch", str(error))
        except BodyBroken as error:
            self._cut("upstream", str(error))
        except StoreError as error:
            blob.distrust()
            self._cut("store", str(error))
        except (ConnectionError, TimeoutError):
            self._cut("client_gone", "")
        except asyncio.CancelledError:  # how aiohttp tells that the connection was lost
            self._cut("client_gone", "")
            raise
        finally:
            blob.close()
        return response

    async def _send(
        self, status: int, reason: str | None, content: bytes | None, headers: Mapping[str, str], length: int | None
    ) -> web.StreamResponse:
        response = self._prepared(status, reason, headers, length)
        try:
            await response.prepare(self._request)
            if content is not None and self._request.method != "HEAD":
                await self._write(response, content)
            await response.write_eof()
        except (ConnectionError, TimeoutError):
            self._cut("client_gone", "")
        return response

    def _prepared(
        self, status: int, reason: str | None, headers: Mapping[str, str], length: int | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, reason=reason, headers={**ALWAYS, **headers})
        if length is not None:
            response.content_length = length
        self._record.status = status
        return response

    async def _write(self, response: web.StreamResponse, chunk: bytes) -> None:
        """Send a chunk to a client that takes it; raises TimeoutError for one that makes no progress."""
        async with asyncio.timeout(self._client_stall):
            await response.write(chunk)
        self._record.sent += len(chunk)

    def _cut(self, reason: str, message: str) -> None:
        """Break the connection: a length not reached, or a chunked body not ended, shows that it is incomplete."""
        HTTP_ABORTED.labels(reason).inc()
        self._record.aborted = reason
        if message:
            self._record.error = message
            _logger.error("cut %s: %s", self._record.path, message)
        if self._request.transport is not None:
            self._request.transport.abort()


def manifest_headers(manifest: Manifest) -> dict[str, str]:
    """The headers of a manifest; a stale one says so (RFC 9111, section 5.5, which warnings are taken from)."""
    found = manifest.descriptor
    headers = {
        "Content-Type": found.media_type,
        "Docker-Content-Digest": str(found.digest),
        "ETag": f'"{found.digest}"',
        "X-Cache": manifest.way.value,
    }
    if manifest.age is not None:
        headers["Age"] = str(int(manifest.age))
    if manifest.way is Way.STALE:
        headers["Warning"] = '110 scope-proxy "Response is Stale"'
    return headers


def blob_headers(digest: str, blob: Blob | None) -> dict[str, str]:
    """The headers of a blob, or of a part of it."""
    headers = {
        "Content-Type": BLOB,
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
    }
    if blob is not None:
        headers["X-Cache"] = blob.way.value
    if blob is not None and blob.span is not None:
        headers["Content-Range"] = str(blob.span)
    return headers
