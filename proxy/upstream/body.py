"""Bodies of blobs that are resumed after a break where they ended."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from http import HTTPStatus

import aiohttp

from proxy.observe.metrics import UPSTREAM_RESUMES
from proxy.oci.byterange import ByteRange, Span
from proxy.oci.errors import RegistryError
from proxy.routing.table import Route, Target
from proxy.transport.clock import Deadline
from proxy.upstream.client import UpstreamClient
from proxy.upstream.errors import Wrong
from proxy.upstream.send import UpstreamRequest, UpstreamResponse

RESUMES_LIMIT = 3
"""How often one body is resumed."""

_logger = logging.getLogger(__name__)


class BodyBroken(Exception):
    """The body ended early and could not be resumed: a reader must not accept it as complete."""


@dataclass(frozen=True, slots=True)
class BodySource:
    """Where a body comes from, so that its rest can be requested; times in seconds."""

    client: UpstreamClient
    route: Route
    request: UpstreamRequest
    stall: float
    """Without a byte, before the body counts as stalled."""
    headers: float
    """For the headers of a response that resumes it."""


class ResumingBody:
    """The bytes `first` to `last` of a blob, whatever happens to the connections that carry them.

    Without a known `last` the end of the answer is the end. `position` is the byte that the answer begins with, where
    that is not `first`: a server without ranges sends a blob from its beginning, and what comes first is passed over.
    """

    def __init__(
        self,
        source: BodySource,
        response: UpstreamResponse,
        first: int,
        last: int | None,
        *,
        position: int | None = None,
    ) -> None:
        self._source = source
        self._response = response
        self._offset = first
        self._position = first if position is None else position
        self._last = last
        self.origins = {response.target.endpoint.origin}
        """The endpoints that have sent bytes of it, redirects to object stores aside."""

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes in order; raises BodyBroken."""
        for attempt in range(RESUMES_LIMIT + 1):
            if attempt:
                await self._resume()
            try:
                async with aclosing(self._read()) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
                _logger.warning(
                    "%s %s broke at byte %d: %s",
                    self._source.route.registry,
                    self._source.request.suffix,
                    self._offset,
                    type(error).__name__,
                )
                error.__traceback__ = None  # a broken stream keeps its error, whose frames would keep the stream
            else:
                if self._last is None or self._offset > self._last:
                    self.close()  # a client that reads the last bytes slowly holds up nobody
                    return
        raise BodyBroken(
            f"{self._source.request.suffix} broke off at byte {self._offset}, after {RESUMES_LIMIT} attempts to resume"
        )

    def close(self) -> None:
        """Give the connection back."""
        self._response.close()

    def reclaim(self) -> bool:
        """Whether the host's place that it holds must be released now, as others wait for it."""
        return self._response.reclaim()

    async def _read(self) -> AsyncGenerator[bytes, None]:
        """Chunks of the current connection from the byte that is wanted next, never beyond the last one."""
        async with aclosing(self._response.chunks(self._source.stall)) as received:
            while self._last is None or self._offset <= self._last:
                chunk = await anext(received, b"")
                if not chunk:
                    if self._position < self._offset:
                        raise aiohttp.ClientPayloadError("the blob sent again is shorter than before")
                    return
                passed_over = self._offset - self._position
                self._position += len(chunk)
                chunk = chunk[passed_over:]
                if self._last is not None:
                    chunk = chunk[: self._last + 1 - self._offset]
                if chunk:
                    self._offset += len(chunk)
                    yield chunk

    async def _resume(self) -> None:
        """Request the rest from whichever endpoint has it; raises BodyBroken."""
        self._response.close()
        UPSTREAM_RESUMES.labels(self._source.route.upstream).inc()
        source = self._source
        route = others_first(source.route, self._response.target)
        request = replace(source.request, range=ByteRange(self._offset, self._last))
        deadline = Deadline.after(source.headers)
        try:
            responses = source.client.responses(route, request, deadline)
            while True:
                async with await responses.next() as response:
                    self._position = self._resumed_at(response)
                    self._response = response
                    self.origins.add(response.target.endpoint.origin)
                    return
        except RegistryError as error:
            raise BodyBroken(
                f"{self._source.request.suffix} broke off at byte {self._offset}: {error.reason}"
            ) from error

    def _resumed_at(self, response: UpstreamResponse) -> int:
        """The byte that a response begins with, which must hold the byte that is wanted next; raises Wrong."""
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            refuse_shorter(response, self._offset)
            return 0
        span = Span.parse(response.headers.get("Content-Range"))
        if span is None or span.first != self._offset:
            raise Wrong(f"{response.target.endpoint.origin.authority} sent another range than the requested one")
        return self._offset


def refuse_shorter(response: UpstreamResponse, count: int) -> None:
    """Raise Wrong for an answer with a whole blob that has fewer bytes than have come before."""
    size = response.content_length
    if size is not None and size < count:
        raise Wrong(f"{response.target.endpoint.origin.authority}: the blob sent again is shorter than before")


def others_first(route: Route, target: Target) -> Route:
    """The route with one target at its end: what it sent was broken or wrong."""
    return replace(route, targets=(*(item for item in route.targets if item != target), target))
