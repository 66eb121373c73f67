"""All downloads in flight: one for each digest and trust domain, whoever asks, in whichever process."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus

from cachetools import TTLCache

from proxy.config.address import Origin
from proxy.config.cache import Cache
from proxy.config.model import Timeouts
from proxy.observe.metrics import CACHE_CORRUPTIONS, DOWNLOADS
from proxy.oci.byterange import ByteRange, Span
from proxy.oci.errors import RangeInvalid, RegistryError
from proxy.oci.reference import Digest
from proxy.oci.request import Operation
from proxy.pull.blobs.download import first_of, rehash, write_through
from proxy.pull.blobs.live import Abandoned, ContentWrong, Progress, WriterStalled
from proxy.pull.blobs.stored import Verified
from proxy.routing.table import Route, Target
from proxy.store.blobs import Arrival, Arriving, BlobStore, Ingest, Origins, StoreError
from proxy.store.disk import count_write_error
from proxy.store.eviction import Evictor
from proxy.store.provenance import Provenance
from proxy.transport.clock import Deadline
from proxy.transport.limits import Requesters
from proxy.transport.singleflight import Background
from proxy.upstream.body import BodyBroken, BodySource, ResumingBody, others_first, refuse_shorter
from proxy.upstream.client import UpstreamClient
from proxy.upstream.errors import Wrong
from proxy.upstream.offline import not_cached
from proxy.upstream.send import UpstreamRequest, UpstreamResponse

POLL_SECONDS = 0.025
"""How often the download of another process is looked at."""
WRONG_SECONDS = 60.0
"""How long an endpoint that sent corrupt content of a digest is tried last for it."""
WRONG_LIMIT = 1024
STALLED_SECONDS = 60.0
"""How long no download is followed whose writer, another process, was seen to do nothing."""
RECHECK_STEP = 16 * 1024 * 1024
"""Bytes of a body of unknown size after which the bounds of the store are looked at again."""

_logger = logging.getLogger(__name__)

_Answer = tuple[ResumingBody, int | None, Target]
"""The body to come, the size of the whole if it is reported, and who sends it."""


class Downloads:
    """Starts downloads and lets others join them."""

    def __init__(
        self,
        client: UpstreamClient,
        store: BlobStore,
        verified: Verified,
        background: Background,
        *,
        provenance: Provenance,
        evictor: Evictor,
        cache: Cache,
        timeouts: Timeouts,
        recheck_step: int = RECHECK_STEP,
    ) -> None:
        self._recheck_step = recheck_step
        self._client = client
        self._store = store
        self._provenance = provenance
        self._verified = verified
        self._background = background
        self._evictor = evictor
        self._cache = cache
        self._timeouts = timeouts
        self._active: dict[tuple[Digest, Origins | None], Progress] = {}
        self._wrong: TTLCache[tuple[Digest, Origin], bool] = TTLCache(WRONG_LIMIT, WRONG_SECONDS)
        self._stalled: TTLCache[tuple[Digest, Origins | None], bool] = TTLCache(WRONG_LIMIT, STALLED_SECONDS)

    def __repr__(self) -> str:
        """What the status shows."""
        return f"{len(self._active)} downloads in flight"

    def active(self, route: Route, digest: Digest, *, is_own: bool = False) -> Progress | None:
        """The download in this process that a client of the route would join; with `is_own` not another registry's."""
        return self._active.get((digest, self._domain(route, digest, is_own=is_own)))

    def start(self, route: Route, digest: Digest, *, is_own: bool = False) -> Progress:
        """The download of a digest, begun if there is none; it goes on when its client leaves.

        Raises BlobUnknown with `cache.offline`.
        """
        if self._cache.offline:
            raise not_cached(route, Operation.BLOB, f"blobs/{digest}")
        domain = self._domain(route, digest, is_own=is_own)
        progress = self._active.get((digest, domain))
        if progress is None:
            progress = self._active[digest, domain] = Progress(route.starter, route.origins)
            progress.requesters = Requesters()
            self._background.start(self._run(progress, route, digest, domain))
        if progress.requesters is not None:
            progress.requesters.include(Requesters.current())
        return progress

    def serves_badly(self, progress: Progress, route: Route, digest: Digest) -> bool:
        """Whether an endpoint that is none of the route's delivers it too slowly, or has sent corrupt content of it."""
        others = progress.origins - route.origins
        if not others or progress.verified:
            return False
        is_slow = progress.is_slower(self._cache.min_join_rate)
        return is_slow or any((digest, origin) in self._wrong for origin in others)

    def _domain(self, route: Route, digest: Digest, *, is_own: bool) -> Origins | None:
        """The trust domain whose download a client of the route joins or starts.

        Where content is shared that is the one of all, unless it is of no use to this client: then its own.
        """
        if is_own or route.domain is not None or (digest, route.origins) in self._active:
            return route.origins
        shared = self._active.get((digest, None))
        return None if shared is None or not self.serves_badly(shared, route, digest) else route.origins

    async def _run(self, progress: Progress, route: Route, digest: Digest, domain: Origins | None) -> None:
        if progress.requesters is not None:
            progress.requesters.bind()
        try:
            with DOWNLOADS.track_inprogress():
                await self._while_wanted(progress, route, digest, domain)
        except asyncio.CancelledError:
            progress.fail(Abandoned("the proxy stops"))
            raise
        except StoreError as error:
            count_write_error(error)
            _logger.warning("%s is not kept: %s", digest, error)
            progress.fail(error)
        except ContentWrong as error:
            CACHE_CORRUPTIONS.labels("ingest").inc()
            _logger.error("%s", error)  # noqa: TRY400 - no bug of ours, no traceback
            progress.fail(error)
        except (RegistryError, BodyBroken, Abandoned) as error:
            progress.fail(error)
        except Exception as error:
            _logger.exception("a bug: the download of %s", digest)
            progress.fail(error)
        else:
            self._verified.add(digest, progress.available)
        finally:
            self._active.pop((digest, domain), None)
            progress.finish()

    async def _while_wanted(self, progress: Progress, route: Route, digest: Digest, domain: Origins | None) -> None:
        """Obtain it; where abandoned downloads are not to be finished, as long as somebody reads it."""
        if self._cache.finish_abandoned:
            await self._obtain(progress, route, digest, domain)
            return

        async def leave() -> None:
            await progress.deserted()
            if not progress.verified:
                raise Abandoned("every client has left")

        try:
            async with asyncio.TaskGroup() as tasks:
                leaving = tasks.create_task(leave())
                await self._obtain(progress, route, digest, domain)
                leaving.cancel()
        except BaseExceptionGroup as group:
            raise first_of(group) from None

    async def _obtain(self, progress: Progress, route: Route, digest: Digest, domain: Origins | None) -> None:
        ingest = await self._store.begin(digest, domain)
        if ingest is None:
            await self._follow(progress, digest, domain)
            return
        try:
            await self._refuse_stored(digest, domain)
            await self._download(progress, ingest, route, digest)
        except BaseException:
            try:
                await _end(ingest, digest)
            finally:
                if progress.content is None:
                    ingest.close()
            raise

    async def _refuse_stored(self, digest: Digest, domain: Origins | None) -> None:
        """Look once more, now that nobody else can store it; raises Abandoned where it has just been stored."""
        if domain is not None and not await self._provenance.covers(digest, domain):
            return
        content = None if self._verified.is_spoiled(digest) else await self._store.find(digest)
        if content is not None:
            content.close()
            raise Abandoned("it has just been stored")

    async def _follow(self, progress: Progress, digest: Digest, domain: Origins | None) -> None:
        """See another process write it; raises Abandoned where that ends unfinished."""
        progress.is_remote = True
        if (digest, domain) in self._stalled:
            raise WriterStalled("the other process that downloads it did nothing a moment ago")
        arriving = await self._store.arriving(digest, domain)
        if arriving is None:
            raise Abandoned("the other process has just ended its download")
        try:
            await self._see(progress, arriving)
        except WriterStalled:
            self._stalled[digest, domain] = True
            raise
        finally:
            if progress.content is None:
                arriving.close()

    async def _see(self, progress: Progress, arriving: Arriving) -> None:
        size, patience = arriving.size, Deadline.after(self._timeouts.stall)
        while (state := await arriving.poll()) is Arrival.GROWING:
            if arriving.size > size:
                size, patience = arriving.size, Deadline.after(self._timeouts.stall)
            elif not patience.remaining:
                raise WriterStalled("the other process that downloads it does nothing")
            if arriving.total is not None and not progress.started.is_set():
                progress.origins = progress.origins if arriving.origin is None else frozenset({arriving.origin})
                progress.start(arriving, arriving.total if arriving.total >= 0 else None)
            progress.advance(arriving.size)
            await asyncio.sleep(POLL_SECONDS)
        if not progress.started.is_set():
            progress.start(arriving, arriving.size)
        if state is Arrival.ABANDONED:
            raise Abandoned("the other process did not finish its download")
        progress.complete(arriving.size)

    async def _download(self, progress: Progress, ingest: Ingest, route: Route, digest: Digest) -> None:
        """Fetch it, beginning behind what an interrupted writer has left."""
        await self._make_room()  # where there is none for what is in flight already, nothing is requested in vain
        hasher, offset = digest.hasher(), ingest.size
        await rehash(ingest, hasher, offset)
        if offset and hasher.hexdigest() == digest.hex:  # its writer ended just before the commit
            progress.start(ingest, offset)
            await ingest.commit(route.domain)
            progress.complete(offset)
            return
        body, size, target = await self._open(route, digest, offset)
        try:
            # Told first, so that downloads which begin at the same time count each other.
            await ingest.expect(size, target.endpoint.origin)
            await self._make_room()
            progress.confirmed = route.key
            progress.origins = frozenset(body.origins)
            progress.start(ingest, size)
            progress.advance(offset)
            chunks = body.chunks() if size is not None else self._within_bounds(body.chunks())
            await write_through(
                progress, ingest, digest, hasher, chunks, delivered_by=lambda: _delivered(body, route, offset)
            )
        except ContentWrong:
            self._wrong.update(dict.fromkeys(((digest, origin) for origin in body.origins), True))
            raise
        finally:
            body.close()

    async def _make_room(self) -> None:
        """Evict what has to go for the downloads in flight; raises StoreError where they do not fit."""
        if not await self._evictor.make_room():
            raise StoreError("there is no room for it within maxSize and reserveFree", "enospc")

    async def _within_bounds(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The bytes of a body of unknown size: room is made for them while they come; raises StoreError."""
        unseen = 0
        async with aclosing(chunks):
            async for chunk in chunks:
                unseen += len(chunk)
                if unseen >= self._recheck_step:
                    unseen = 0
                    await self._make_room()
                yield chunk

    async def _open(self, route: Route, digest: Digest, offset: int) -> _Answer:
        """The response of whichever endpoint has it; raises RegistryError and Abandoned."""
        wanted = ByteRange(offset) if offset else None
        request = UpstreamRequest(Operation.BLOB, f"blobs/{digest.text}", "GET", "*/*", wanted)
        deadline = Deadline.after(self._cache.fetch_timeout)
        for target in route.targets:
            if (digest, target.endpoint.origin) in self._wrong:
                route = others_first(route, target)
        patience = self._timeouts.blob
        try:
            responses = self._client.responses(route, request, deadline, patience=patience)
            while True:
                async with await responses.next() as response:
                    return self._opened(route, request, offset, response)
        except RangeInvalid as error:
            raise Abandoned("what an interrupted writer left cannot be continued") from error

    def _opened(self, route: Route, request: UpstreamRequest, offset: int, response: UpstreamResponse) -> _Answer:
        """The body from `offset` on, and the size of the whole if it is reported; raises Wrong."""
        host = response.target.endpoint.origin.authority
        size, position = response.content_length, 0
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            span = Span.parse(response.headers.get("Content-Range"))
            if span is None or span.first != offset or span.size is None or span.last != span.size - 1:
                raise Wrong(f"{host} sent another range of {request.suffix} than the requested one")
            size, position = span.size, offset
        else:
            refuse_shorter(response, offset)
        timeouts = self._timeouts
        source = BodySource(
            self._client,
            route,
            UpstreamRequest(request.operation, request.suffix, "GET", request.accept),
            timeouts.stall,
            timeouts.blob,
        )
        body = ResumingBody(source, response, offset, None if size is None else size - 1, position=position)
        return body, size, response.target


def _delivered(body: ResumingBody, route: Route, offset: int) -> Origins | None:
    """Who has sent the whole: with a beginning that an interrupted writer left, any endpoint of the domain may have.

    None where that could be any registry's.
    """
    return frozenset(body.origins) if not offset else route.domain


async def _end(ingest: Ingest, digest: Digest) -> None:
    """Drop what was written; a failing disk hides no other error."""
    try:
        await ingest.abort()
    except (StoreError, OSError) as error:
        _logger.warning("the unfinished %s is not removed: %s", digest, error)
