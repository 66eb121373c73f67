"""Manifests are parsed once, and which digests are manifests is remembered: those are never served as blobs."""

import asyncio

from cachetools import LRUCache

from proxy.oci.descriptor import ParsedManifest, parse_manifest
from proxy.oci.errors import BlobUnknown
from proxy.oci.reference import Digest
from proxy.routing.table import Route

IN_LOOP = 256 * 1024
"""Bytes up to which no thread is needed: what images have, and milliseconds of parsing at the most."""


async def parse(content: bytes) -> ParsedManifest:
    """What some bytes are as a manifest."""
    return parse_manifest(content) if len(content) <= IN_LOOP else await asyncio.to_thread(parse_manifest, content)


async def examine(content: bytes, algorithm: str) -> tuple[Digest, ParsedManifest]:
    """The digest of some bytes, and what they are as a manifest."""
    if len(content) <= IN_LOOP:
        return _examine(content, algorithm)
    return await asyncio.to_thread(_examine, content, algorithm)


def _examine(content: bytes, algorithm: str) -> tuple[Digest, ParsedManifest]:
    return Digest.of(content, algorithm), parse_manifest(content)


KNOWN_LIMIT = 50_000
"""Most digests whose kind is remembered."""


class KnownManifests:
    """Remembers of digests whether their bytes, seen and verified, were a manifest."""

    def __init__(self, limit: int = KNOWN_LIMIT) -> None:
        self._is_manifest: LRUCache[Digest, bool] = LRUCache(limit)

    def known(self, digest: Digest) -> bool | None:
        """Whether the digest is a manifest's; None where its bytes have not been seen."""
        return self._is_manifest.get(digest)

    def learn(self, digest: Digest, parsed: ParsedManifest) -> bool:
        """Remember what the verified bytes of a digest are; whether they are a manifest."""
        found = self._is_manifest[digest] = parsed.is_manifest
        return found

    def learn_manifest(self, digest: Digest) -> None:
        """Remember a digest as a manifest: its verified bytes are served as one, whatever they look like."""
        self._is_manifest[digest] = True

    def learn_blob(self, digest: Digest) -> None:
        """Remember a digest as a blob: its verified bytes are more than a manifest may have, or begin as none does."""
        self._is_manifest[digest] = False


def refuse_manifest(known_manifests: KnownManifests, route: Route, digest: Digest) -> None:
    """Raise BlobUnknown for what is known to be a manifest; clients with rights of their own learn no more."""
    if known_manifests.known(digest):
        if route.caller.login is not None:
            host = route.targets[0].endpoint.origin.authority
            raise BlobUnknown(f"{host} does not have {route.targets[0].repository} blobs/{digest.text}")
        raise BlobUnknown(f"{digest.text} in {route.repository} is a manifest, not a blob")


def may_begin_manifest(beginning: bytes) -> bool:
    """Whether a manifest can begin with these bytes: layers are compressed and do not."""
    return beginning.lstrip(b" \t\r\n")[:1] in (b"", b"{")
