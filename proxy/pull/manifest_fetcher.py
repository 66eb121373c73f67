"""A manifest from the upstream, by tag or digest: read whole and verified before anybody gets it."""

import logging
from dataclasses import dataclass, field

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
from proxy.pull.bodies import content_length, whole_body
from proxy.pull.kinds import Kinds
from proxy.pull.parsing import examine
from proxy.routing.table import Route
from proxy.transport.clock import Deadline
from proxy.upstream.ask import Ask, Opened
from proxy.upstream.client import NOT_MODIFIED, UpstreamClient
from proxy.upstream.failure import Wrong

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest's descriptor, and its bytes unless only the descriptor was asked for."""

    descriptor: Descriptor
    content: bytes | None = field(repr=False)
    origin: Origin
    """The endpoint that has told or sent it."""
    parsed: ParsedManifest | None = field(default=None, repr=False)
    """What the bytes are, where they were sent."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a request may take, and how long one of several endpoints is waited for; in seconds."""

    deadline: Deadline
    patience: float | None = None


class ManifestFetcher:
    """Fetches manifests and keeps nothing."""

    def __init__(self, client: UpstreamClient, kinds: Kinds) -> None:
        self._client = client
        self._kinds = kinds

    async def get(
        self, route: Route, reference: Tag | Digest, accept: str | None, budget: Budget, known: Descriptor | None = None
    ) -> Fetched:
        """The manifest with its bytes; raises RegistryError.

        Where it is still the `known` one its bytes may be left out: the upstream is asked for what has changed.
        """
        etag = f'"{known.digest}"' if known else None
        ask = Ask(Operation.MANIFEST, f"manifests/{reference}", "GET", accept or ACCEPT, etag=etag)

        async def consume(opened: Opened) -> Fetched:
            if opened.response.status == NOT_MODIFIED and known is not None:
                opened.close()
                return Fetched(known, None, opened.target.endpoint.origin)
            return await self._read(opened, reference)

        return await self._client.fetch(route, ask, budget.deadline, consume, patience=budget.patience)

    async def head(
        self, route: Route, reference: Tag | Digest, accept: str | None, budget: Budget, known: Descriptor | None = None
    ) -> Fetched:
        """The manifest's descriptor, by HEAD where the upstream tells all of it; raises RegistryError."""
        ask = Ask(Operation.MANIFEST, f"manifests/{reference}", "HEAD", accept or ACCEPT)

        async def consume(opened: Opened) -> Fetched | None:
            if opened.response.method == "GET":
                return await self._read(opened, reference)
            found = _described(opened, reference)
            opened.close()
            return found

        fetched = await self._client.fetch(route, ask, budget.deadline, consume, patience=budget.patience)
        return fetched or await self.get(route, reference, accept, budget, known)

    async def _read(self, opened: Opened, reference: Tag | Digest) -> Fetched:
        """Read and verify; raises Wrong, so that another endpoint may have it right."""
        response = opened.response
        expected = _expected(opened, reference)
        async with whole_body(opened, MANIFEST_LIMIT, "manifest") as content:
            digest, parsed = await examine(content, expected.algorithm if expected else "sha256")
        if expected is not None and digest != expected:
            host = opened.target.endpoint.origin.authority
            raise Wrong(f"{host} sent a manifest with digest {digest} for {expected}", UpstreamDigestInvalid)
        try:
            media_type = parsed.media_type(response.headers.get("Content-Type"))
        except UpstreamInvalid as error:
            raise Wrong(f"{opened.target.endpoint.origin.authority}: {error.reason}", type(error)) from None
        told = media_type_of(response.headers.get("Content-Type"))
        if told != media_type:
            _logger.info(
                "%s calls a manifest %s that is %s", opened.target.endpoint.origin, told or "nothing", media_type
            )
        self._kinds.learn_manifest(digest)
        found = Descriptor(media_type, digest, len(content))
        return Fetched(found, content, opened.target.endpoint.origin, parsed)


def _expected(opened: Opened, reference: Tag | Digest) -> Digest | None:
    """The digest that the bytes must have: the one asked for, or of a tag the one that the upstream tells, if any."""
    return reference if isinstance(reference, Digest) else _told_digest(opened)


def _described(opened: Opened, reference: Tag | Digest) -> Fetched | None:
    """The descriptor that a HEAD tells; None where it leaves something out or calls it no manifest."""
    told, size = _told_digest(opened), content_length(opened)
    media_type = media_type_of(opened.response.headers.get("Content-Type"))
    if told is None or not size or media_type not in MANIFEST_TYPES:
        return None
    host = opened.target.endpoint.origin.authority
    if isinstance(reference, Digest) and told != reference:
        raise Wrong(f"{host} tells digest {told} for {reference}", UpstreamDigestInvalid)
    if size > MANIFEST_LIMIT:
        raise Wrong(f"{host} tells a manifest of {size} bytes; at most {MANIFEST_LIMIT} are served")
    return Fetched(Descriptor(media_type, told, size), None, opened.target.endpoint.origin)


def _told_digest(opened: Opened) -> Digest | None:
    try:
        return Digest.parse(opened.response.headers.get("Docker-Content-Digest", ""))
    except DigestInvalid:
        return None
