"""A manifest by tag or digest: read whole, verified, and only then given to the node."""

import logging
from dataclasses import dataclass, field

from proxy.config.model import Timeouts
from proxy.oci.descriptor import ACCEPT, MANIFEST_LIMIT, MANIFEST_TYPES, Descriptor, manifest_type, media_type_of
from proxy.oci.errors import DigestInvalid, UpstreamDigestInvalid, UpstreamInvalid
from proxy.oci.reference import Digest, Tag
from proxy.oci.request import Operation
from proxy.pull.bodies import content_length, read_whole
from proxy.pull.kinds import Kinds
from proxy.routing.table import Route
from proxy.transport.clock import Deadline
from proxy.upstream.client import Ask, Opened, UpstreamClient
from proxy.upstream.failure import Wrong

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's descriptor, and its bytes unless only the descriptor was asked for."""

    descriptor: Descriptor
    content: bytes | None = field(repr=False)


class Manifests:
    """Fetches manifests."""

    def __init__(self, client: UpstreamClient, kinds: Kinds, timeouts: Timeouts) -> None:
        self._client = client
        self._kinds = kinds
        self._timeouts = timeouts

    async def get(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest with its bytes; raises RegistryError."""
        return await self._get(route, reference, accept, Deadline.after(self._timeouts.manifest))

    async def head(self, route: Route, reference: Tag | Digest, accept: str | None) -> Manifest:
        """The manifest's descriptor, by HEAD where the upstream tells all of it; raises RegistryError."""
        deadline = Deadline.after(self._timeouts.manifest)
        ask = Ask(Operation.MANIFEST, f"manifests/{reference}", "HEAD", accept or ACCEPT)

        async def consume(opened: Opened) -> Manifest | None:
            if opened.response.method == "GET":
                return await self._read(opened, reference)
            found = _described(opened, reference)
            opened.close()
            return found

        manifest = await self._client.fetch(route, ask, deadline, consume)
        if manifest is None:
            return await self._get(route, reference, accept, deadline)
        return manifest

    async def _get(self, route: Route, reference: Tag | Digest, accept: str | None, deadline: Deadline) -> Manifest:
        ask = Ask(Operation.MANIFEST, f"manifests/{reference}", "GET", accept or ACCEPT)
        return await self._client.fetch(route, ask, deadline, lambda opened: self._read(opened, reference))

    async def _read(self, opened: Opened, reference: Tag | Digest) -> Manifest:
        """Read and verify; raises Wrong, so that another endpoint may have it right."""
        response = opened.response
        content = await read_whole(opened, MANIFEST_LIMIT, "manifest")
        digest = _verified(opened, content, reference)
        try:
            media_type = manifest_type(content, response.headers.get("Content-Type"))
        except UpstreamInvalid as error:
            raise Wrong(f"{opened.target.endpoint.origin.authority}: {error.reason}", type(error)) from None
        told = media_type_of(response.headers.get("Content-Type"))
        if told != media_type:
            _logger.info(
                "%s calls a manifest %s that is %s", opened.target.endpoint.origin, told or "nothing", media_type
            )
        self._kinds.learn(digest, content)
        return Manifest(Descriptor(media_type, digest, len(content)), content)


def _verified(opened: Opened, content: bytes, reference: Tag | Digest) -> Digest:
    """The digest of the bytes, if it is the one asked for, or of a tag the one that the upstream tells."""
    told = _told_digest(opened)
    expected = reference if isinstance(reference, Digest) else told
    actual = Digest.of(content, expected.algorithm if expected else "sha256")
    if expected is not None and actual != expected:
        host = opened.target.endpoint.origin.authority
        raise Wrong(f"{host} sent a manifest with digest {actual} for {expected}", UpstreamDigestInvalid)
    return actual


def _described(opened: Opened, reference: Tag | Digest) -> Manifest | None:
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
    return Manifest(Descriptor(media_type, told, size), None)


def _told_digest(opened: Opened) -> Digest | None:
    try:
        return Digest.parse(opened.response.headers.get("Docker-Content-Digest", ""))
    except DigestInvalid:
        return None
