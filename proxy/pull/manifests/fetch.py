"""A manifest from the upstream, by tag or digest: read whole and verified before anybody gets it."""

import functools
import logging
from dataclasses import dataclass, field
from http import HTTPStatus

from proxy.config.address import Origin
from proxy.oci.descriptor import (
    ACCEPT,
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    Descriptor,
    ParsedManifest,
    media_type_of,
)
from proxy.oci.errors import DigestInvalid, UpstreamDigestInvalid, UpstreamInvalid
from proxy.oci.reference import Digest, Tag
from proxy.oci.request import Operation
from proxy.pull.blobs.live import CacheResult
from proxy.pull.known_manifests import KnownManifests, examine
from proxy.routing.table import Route
from proxy.transport.clock import Deadline
from proxy.upstream.client import UpstreamClient
from proxy.upstream.errors import Wrong
from proxy.upstream.send import UpstreamRequest, UpstreamResponse

ACCEPTS_REMEMBERED = 128
"""Accept headers whose meaning is remembered, each with one media type; requests have headers of a bounded size."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest: its descriptor, its bytes unless only the descriptor was requested, and how it was served."""

    descriptor: Descriptor
    content: bytes | None = field(repr=False)
    way: CacheResult = CacheResult.BYPASS
    age: float | None = None
    """Seconds since the upstream last confirmed the tag; None where that was just now, or for a digest."""
    origin: Origin | None = None
    """The endpoint that reported or sent it; None for what is stored."""
    parsed: ParsedManifest | None = field(default=None, repr=False)
    """What the bytes are, where they were sent."""


@functools.lru_cache(ACCEPTS_REMEMBERED)
def accepts(accept: str | None, media_type: str) -> bool:
    """Whether a client that sends this Accept header takes a media type; without a header it takes all."""
    if accept is None:
        return True
    offered = {item.split(";", 1)[0].strip().lower() for item in accept.split(",")}
    return bool(offered & {media_type, "*/*", "application/*"})


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a request may take, and how long one of several endpoints is waited for; in seconds."""

    deadline: Deadline
    patience: float | None = None


class ManifestFetcher:
    """Fetches manifests and keeps nothing."""

    def __init__(self, client: UpstreamClient, known_manifests: KnownManifests) -> None:
        self._client = client
        self._known_manifests = known_manifests

    async def get(
        self, route: Route, reference: Tag | Digest, accept: str | None, budget: Budget, known: Descriptor | None = None
    ) -> Manifest:
        """The manifest with its bytes; raises RegistryError.

        Where it is still the `known` one its bytes may be left out: the request is conditional (If-None-Match).
        """
        etag = f'"{known.digest.text}"' if known else None
        request = UpstreamRequest(Operation.MANIFEST, f"manifests/{reference.text}", "GET", accept or ACCEPT, etag=etag)
        responses = self._client.responses(route, request, budget.deadline, patience=budget.patience)
        while True:
            async with await responses.next() as response:
                if response.status == HTTPStatus.NOT_MODIFIED and known is not None:
                    response.close()
                    return Manifest(known, None, origin=response.target.endpoint.origin)
                return await self._read(response, reference)

    async def head(
        self, route: Route, reference: Tag | Digest, accept: str | None, budget: Budget, known: Descriptor | None = None
    ) -> Manifest:
        """The manifest's descriptor, by HEAD where the upstream reports all of it; raises RegistryError."""
        request = UpstreamRequest(Operation.MANIFEST, f"manifests/{reference.text}", "HEAD", accept or ACCEPT)
        responses = self._client.responses(route, request, budget.deadline, patience=budget.patience)
        while True:
            async with await responses.next() as response:
                if response.method == "GET":
                    return await self._read(response, reference)
                described = _described(response, reference)
                response.close()
                break
        return described or await self.get(route, reference, accept, budget, known)

    async def _read(self, response: UpstreamResponse, reference: Tag | Digest) -> Manifest:
        """Read and verify; raises Wrong, so that another endpoint may have it right."""
        expected = _expected(response, reference)
        async with response.whole(MANIFEST_LIMIT, "manifest") as content:
            digest, parsed = await examine(content, expected.algorithm if expected else "sha256")
        if expected is not None and digest != expected:
            host = response.target.endpoint.origin.authority
            raise Wrong(f"{host} sent a manifest with digest {digest} for {expected}", UpstreamDigestInvalid)
        try:
            media_type = parsed.media_type(response.headers.get("Content-Type"))
        except UpstreamInvalid as error:
            raise Wrong(f"{response.target.endpoint.origin.authority}: {error.reason}", type(error)) from None
        reported = media_type_of(response.headers.get("Content-Type"))
        if reported != media_type:
            _logger.info(
                "%s calls a manifest %s that is %s", response.target.endpoint.origin, reported or "nothing", media_type
            )
        self._known_manifests.learn_manifest(digest)
        found = Descriptor(media_type, digest, len(content))
        return Manifest(found, content, origin=response.target.endpoint.origin, parsed=parsed)


def _expected(response: UpstreamResponse, reference: Tag | Digest) -> Digest | None:
    """The digest that the bytes must have: the requested one, or of a tag the one that the upstream reports, if any."""
    return reference if isinstance(reference, Digest) else _reported_digest(response)


def _described(response: UpstreamResponse, reference: Tag | Digest) -> Manifest | None:
    """The descriptor that a HEAD reports; None where it is incomplete or has no type of a manifest."""
    reported, size = _reported_digest(response), response.content_length
    media_type = media_type_of(response.headers.get("Content-Type"))
    if reported is None or not size or media_type not in MANIFEST_TYPES:
        return None
    host = response.target.endpoint.origin.authority
    if isinstance(reference, Digest) and reported != reference:
        raise Wrong(f"{host} reports digest {reported} for {reference}", UpstreamDigestInvalid)
    if size > MANIFEST_LIMIT:
        raise Wrong(f"{host} reports a manifest of {size} bytes; at most {MANIFEST_LIMIT} are served")
    return Manifest(Descriptor(media_type, reported, size), None, origin=response.target.endpoint.origin)


def _reported_digest(response: UpstreamResponse) -> Digest | None:
    try:
        return Digest.parse(response.headers.get("Docker-Content-Digest", ""))
    except DigestInvalid:
        return None
