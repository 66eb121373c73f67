"""A blob passed through without being kept: verified as far as that goes.

Small ones are verified before their first byte, large ones are streamed with their tail held back.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from http import HTTPStatus

from proxy.config.model import Timeouts
from proxy.observe.metrics import UPSTREAM_ERRORS
from proxy.oci.byterange import ByteRange, Span
from proxy.oci.descriptor import MANIFEST_LIMIT
from proxy.oci.errors import RangeInvalid, RegistryError, UpstreamDigestInvalid, UpstreamInvalid
from proxy.oci.reference import Digest
from proxy.oci.request import Operation
from proxy.pull.blobs.download import Hasher
from proxy.pull.blobs.live import Blob, DigestMismatch, MemoryBlob, Passing
from proxy.pull.blobs.mismatched_digests import MismatchedDigests
from proxy.pull.known_manifests import KnownManifests, examine, may_begin_manifest, refuse_manifest
from proxy.routing.table import Route
from proxy.transport.clock import Deadline
from proxy.upstream.body import BodyBroken, BodySource, ResumingBody, refuse_shorter
from proxy.upstream.client import UpstreamClient
from proxy.upstream.errors import Wrong
from proxy.upstream.send import UpstreamRequest, UpstreamResponse

SMALL = MANIFEST_LIMIT
"""Blobs of more bytes are no manifests: they are streamed at once."""
VERIFIED = 1024 * 1024
"""Blobs up to so many bytes are verified before their first byte; more, up to SMALL, only if they may be manifests."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What a client still lacks: from `offset` to `last` (None: the end); `hasher` has all that was sent before."""

    route: Route
    digest: Digest
    offset: int
    last: int | None
    hasher: Hasher | None
    passing: Passing


@dataclass(frozen=True, slots=True)
class _Wanted:
    route: Route
    digest: Digest
    range: ByteRange | None = None

    def request(self, method: str = "GET") -> UpstreamRequest:
        return UpstreamRequest(Operation.BLOB, f"blobs/{self.digest.text}", method, "*/*", self.range)


class PassingBlob(Blob):
    """A blob, or a part of it, that is read straight from an upstream."""

    __slots__ = ("_body", "_chunks")

    def __init__(
        self,
        digest: Digest,
        size: int | None,
        span: Span | None,
        body: ResumingBody,
        chunks: AsyncGenerator[bytes, None],
    ) -> None:
        super().__init__(digest, size, span)
        self._body = body
        self._chunks = chunks

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """What the upstream sends."""
        return self._chunks

    def close(self) -> None:
        """End the upstream's response."""
        self._body.close()

    def reclaim(self) -> bool:
        """Whether its place must be released now."""
        return self._body.reclaim()


class PassThrough:
    """Fetches blobs and keeps nothing."""

    def __init__(
        self, client: UpstreamClient, known_manifests: KnownManifests, mismatched: MismatchedDigests, timeouts: Timeouts
    ) -> None:
        self._client = client
        self._known_manifests = known_manifests
        self._timeouts = timeouts
        self._mismatched = mismatched

    async def get(
        self, route: Route, digest: Digest, wanted_range: ByteRange | None, deadline: Deadline | None = None
    ) -> Blob:
        """The blob or a range of it, with its body still to come; raises RegistryError."""
        wanted = _Wanted(route, digest, wanted_range)
        refuse_manifest(self._known_manifests, wanted.route, wanted.digest)
        await self._mismatched.refuse_tail(route.registry, digest, wanted_range)
        return await self._get(wanted, deadline or Deadline.after(self._timeouts.blob))

    async def head(self, route: Route, digest: Digest, deadline: Deadline | None = None) -> int:
        """The size of the blob in bytes; raises RegistryError, BlobUnknown for what is a manifest."""
        wanted = _Wanted(route, digest)
        refuse_manifest(self._known_manifests, wanted.route, wanted.digest)
        deadline = deadline or Deadline.after(self._timeouts.blob)
        size = await head_size(self._client, route, wanted.request("HEAD"), deadline)
        if size is None or self._may_be_manifest(digest, size):
            blob = await self._get(wanted, deadline)
            blob.close()
            size = size if blob.size is None else blob.size
        if size is None:
            raise UpstreamInvalid(f"no endpoint of {route.registry} reports the size of {digest}")
        return size

    async def _get(self, wanted: _Wanted, deadline: Deadline) -> Blob:
        """Request the range, and the whole where only the whole shows whether it is a blob or a manifest."""
        for request in (wanted.request(), replace(wanted.request(), range=None)):
            try:
                responses = self._client.responses(wanted.route, request, deadline)
                while True:
                    async with await responses.next() as response:
                        blob = await self._start(wanted, response)
                        break
            except RangeInvalid as error:
                if request.range is None or not self._may_be_manifest(wanted.digest, error.size):
                    raise
                continue
            if blob is not None:
                return blob
        raise AssertionError("the answer to a request without a range is the whole blob")

    def _may_be_manifest(self, digest: Digest, size: int | None) -> bool:
        return self._known_manifests.known(digest) is None and (size is None or size <= SMALL)

    async def _start(self, wanted: _Wanted, response: UpstreamResponse) -> Blob | None:
        """The blob of a response; None for a part of a small blob that has not been seen yet."""
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            return self._start_part(wanted, response)
        size = response.content_length
        if size is not None and size > SMALL:
            return self._stream(wanted, response, size, b"")
        beginning = await response.read_at_most(VERIFIED)
        if len(beginning) > VERIFIED and may_begin_manifest(beginning):
            beginning += await response.read_at_most(SMALL - len(beginning))
        elif len(beginning) > VERIFIED:
            return self._stream(wanted, response, size, beginning)
        if len(beginning) > SMALL:
            return self._stream(wanted, response, None, beginning)
        response.close()
        return await self._small(wanted, response, beginning)

    async def _small(self, wanted: _Wanted, response: UpstreamResponse, content: bytes) -> Blob:
        """A whole blob in memory: verified, and refused if it is a manifest."""
        digest = wanted.digest
        actual, parsed = await examine(content, digest.algorithm)
        if actual != digest:
            UPSTREAM_ERRORS.labels(wanted.route.upstream, "digest_mismatch").inc()
            host = response.target.endpoint.origin.authority
            raise Wrong(f"{host} sent content that does not match {digest}", UpstreamDigestInvalid)
        if self._known_manifests.learn(digest, parsed):
            refuse_manifest(self._known_manifests, wanted.route, wanted.digest)
        return MemoryBlob(digest, content, wanted.range)

    def _start_part(self, wanted: _Wanted, response: UpstreamResponse) -> Blob | None:
        span = Span.parse(response.headers.get("Content-Range"))
        host = response.target.endpoint.origin.authority
        if span is None or span.size is None or wanted.range is None:
            raise Wrong(f"{host} sent a part of {wanted.digest} without saying which")
        if self._may_be_manifest(wanted.digest, span.size):
            response.close()
            return None
        if wanted.range.resolve(span.size) != span:
            raise Wrong(f"{host} sent another range of {wanted.digest} than the requested one")
        body = ResumingBody(self._source(wanted), response, span.first, span.last)
        # `bytes=0-`, as containerd 2.1 always asks: the whole can be verified
        chunks = self._verified(wanted, body.chunks()) if span.length == span.size else body.chunks()
        return PassingBlob(wanted.digest, span.size, span, body, chunks)

    def _stream(self, wanted: _Wanted, response: UpstreamResponse, size: int | None, beginning: bytes) -> Blob:
        """A large blob, read from its start: hashed where all of it is sent, else cut to the range."""
        last = None if size is None else size - 1
        body = ResumingBody(self._source(wanted), response, len(beginning), last)
        span = wanted.range.resolve(size) if wanted.range and size is not None else None

        whole = _prefixed(beginning, body)
        chunks = self._verified(wanted, whole) if span is None else cut(whole, span)
        return PassingBlob(wanted.digest, size, span, body, chunks)

    async def _verified(
        self, wanted: _Wanted, chunks: AsyncGenerator[bytes, None], hasher: Hasher | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The chunks of a whole blob; the last one only once the digest is right. Raises DigestMismatch.

        `hasher` has what was sent before.
        """
        hasher = hasher or wanted.digest.hasher()
        held = b""
        async with aclosing(chunks):
            async for chunk in chunks:
                hasher.update(chunk)
                if held:
                    yield held
                held = chunk
        if hasher.hexdigest() != wanted.digest.hex:
            UPSTREAM_ERRORS.labels(wanted.route.upstream, "digest_mismatch").inc()
            await self._mismatched.add(wanted.route.registry, wanted.digest)
            raise DigestMismatch(f"the upstream sent content that does not match {wanted.digest}")
        self._known_manifests.learn_blob(wanted.digest)
        yield held

    async def rest(self, wanted: Rest) -> AsyncGenerator[bytes, None]:
        """What a client still lacks, where the store has failed in the middle; raises BodyBroken.

        The whole is checked where the client gets the whole: the hash of what it has is given.
        """
        is_whole = wanted.offset == 0 and wanted.last is None
        rest = _Wanted(wanted.route, wanted.digest, None if is_whole else ByteRange(wanted.offset, wanted.last))
        deadline = Deadline.after(self._timeouts.blob)
        try:
            responses = self._client.responses(rest.route, rest.request(), deadline)
            while True:
                async with await responses.next() as response:
                    body = self._start_rest(rest, response)
                    break
        except RegistryError as error:
            raise BodyBroken(f"{wanted.digest} broke off at byte {wanted.offset}: {error.reason}") from error
        wanted.passing.body = body
        try:
            chunks = body.chunks()
            checked = chunks if wanted.hasher is None else self._verified(rest, chunks, wanted.hasher)
            async with aclosing(checked):
                async for chunk in checked:
                    yield chunk
        finally:
            body.close()

    def _start_rest(self, rest: _Wanted, response: UpstreamResponse) -> ResumingBody:
        """The answer from the byte that is wanted next, also of a server that takes no ranges."""
        first, last = (rest.range.first or 0, rest.range.last) if rest.range else (0, None)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            span = Span.parse(response.headers.get("Content-Range"))
            if span is None or span.first != first or (last is not None and span.last != last):
                raise Wrong(f"{response.target.endpoint.origin.authority} sent another range than the requested one")
            return ResumingBody(self._source(rest), response, first, span.last)
        size = response.content_length
        refuse_shorter(response, first)
        end = last if last is not None else None if size is None else size - 1
        return ResumingBody(self._source(rest), response, first, end, position=0)

    def _source(self, wanted: _Wanted) -> BodySource:
        request = replace(wanted.request(), range=None)
        return BodySource(self._client, wanted.route, request, self._timeouts.stall, self._timeouts.blob)


async def _prefixed(beginning: bytes, body: ResumingBody) -> AsyncGenerator[bytes, None]:
    if beginning:
        yield beginning
    async with aclosing(body.chunks()) as chunks:
        async for chunk in chunks:
            yield chunk


async def cut(chunks: AsyncGenerator[bytes, None], span: Span) -> AsyncGenerator[bytes, None]:
    """The part of a stream that `span` means, for an upstream that takes no ranges; what follows is not read."""
    offset = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            start, end = max(span.first - offset, 0), span.last + 1 - offset
            offset += len(chunk)
            if start < len(chunk):
                yield chunk[start:end]
            if offset > span.last:
                return


async def head_size(client: UpstreamClient, route: Route, request: UpstreamRequest, deadline: Deadline) -> int | None:
    """The size that an endpoint reports to a HEAD, or to the GET of one byte that takes its place."""
    responses = client.responses(route, request, deadline)
    while True:
        async with await responses.next() as response:
            size = response.content_length
            if response.status == HTTPStatus.PARTIAL_CONTENT:
                span = Span.parse(response.headers.get("Content-Range"))
                size = span.size if span else None
            response.close()
            return size
