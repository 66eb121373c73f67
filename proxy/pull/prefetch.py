"""A whole image into the cache: its manifest, the manifests of its platforms, its blobs."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from proxy.oci.descriptor import INDEX_TYPES, json_object, parse_manifest
from proxy.oci.errors import ManifestUnknown, UpstreamInvalid
from proxy.oci.reference import Digest, ImageReference
from proxy.pull.blobs.live import CacheResult
from proxy.pull.blobs.service import Blobs
from proxy.pull.manifests.fetch import Manifest
from proxy.pull.manifests.service import Manifests
from proxy.routing.table import Route, RouteTable


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far the image has come: bytes that are in the cache now, of all that are known to be needed."""

    done: int
    total: int
    fetched: int
    """Bytes of it that were not there before."""


class Prefetcher:
    """Pulls images for nobody but the cache."""

    def __init__(self, routes: RouteTable, manifests: Manifests, blobs: Blobs) -> None:
        self._routes = routes
        self._manifests = manifests
        self._blobs = blobs

    async def fetch(self, image: ImageReference, platforms: frozenset[str]) -> AsyncIterator[Progressed]:
        """Pull an image, of an index the given platforms (none given: all); raises RegistryError and BodyBroken."""
        route = self._routes.resolve(image.repository, namespace=image.registry)
        top = await self._manifests.get(route, image.reference, None)
        wanted: dict[Digest, int] = {}
        async for manifest in self._images(route, top, platforms):
            contents = parse_manifest(manifest.content or b"").contents
            if contents.problem:
                raise UpstreamInvalid(f"the blobs of {manifest.descriptor.digest} are not known: {contents.problem}")
            # What a manifest says is stored elsewhere is never requested (CVE-2020-15157).
            wanted |= {blob.digest: blob.size for blob in contents.blobs}
        done, fetched, total = 0, 0, sum(wanted.values())
        yield Progressed(done, total, fetched)
        for digest in wanted:
            async with await self._blobs.get(route, digest, None) as blob, aclosing(blob.pieces()) as pieces:
                is_new = blob.way is not CacheResult.HIT
                async for piece in pieces:
                    length = len(piece) if isinstance(piece, bytes) else piece.length
                    done, fetched = done + length, fetched + length * is_new
                    yield Progressed(done, total, fetched)

    async def _images(self, route: Route, top: Manifest, platforms: frozenset[str]) -> AsyncIterator[Manifest]:
        if top.descriptor.media_type not in INDEX_TYPES:
            yield top
            return
        chosen = [entry for entry in _entries(top) if _is_wanted(entry, platforms)]
        if not chosen:
            raise ManifestUnknown(f"the index has no manifest for {', '.join(sorted(platforms))}")
        for entry in chosen:
            yield await self._manifests.get(route, Digest.parse(str(entry.get("digest"))), None)


def _entries(index: Manifest) -> list[dict[str, Any]]:
    listed = (json_object(index.content or b"") or {}).get("manifests")
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _is_wanted(entry: dict[str, Any], platforms: frozenset[str]) -> bool:
    found = entry.get("platform")
    if not platforms or not isinstance(found, dict):
        return True
    name = f"{found.get('os')}/{found.get('architecture')}"
    return bool(platforms & {name, f"{name}/{found.get('variant')}"})
