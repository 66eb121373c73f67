"""A whole image into the cache: its manifest, the manifests of its platforms, its blobs."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from proxy.oci.descriptor import INDEX_TYPES, index_entries, parse_manifest
from proxy.oci.errors import ManifestUnknown, UpstreamInvalid
from proxy.oci.reference import Digest, ImageReference, Tag
from proxy.pull.blobs.live import CacheResult
from proxy.pull.blobs.service import Blobs
from proxy.pull.manifests.fetch import Manifest
from proxy.pull.manifests.service import Manifests
from proxy.routing.table import Route, RouteTable


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """All that a pull of an image consists of, with sizes in bytes."""

    route: Route
    reference: Tag | Digest
    top: Digest
    """The manifest that the reference names."""
    manifests: Mapping[Digest, int]
    blobs: Mapping[Digest, int]

    @property
    def objects(self) -> dict[Digest, int]:
        """Manifests and blobs."""
        return {**self.manifests, **self.blobs}

    @property
    def size(self) -> int:
        """The size of all of it."""
        return sum(self.objects.values())


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far the image has come: bytes of its blobs that are in the cache now, of all that are needed."""

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

    async def plan(self, image: ImageReference, platforms: frozenset[str]) -> PlannedImage:
        """Fetch the manifests of an image, of an index those of the given platforms (none given: all).

        Raises RegistryError.
        """
        route = self._routes.resolve(image.repository, namespace=image.registry)
        top = await self._manifests.get(route, image.reference, None)
        manifests, blobs = {top.descriptor.digest: top.descriptor.size}, dict[Digest, int]()
        async for manifest in self._images(route, top, platforms):
            manifests[manifest.descriptor.digest] = manifest.descriptor.size
            contents = parse_manifest(manifest.content or b"").contents
            if contents.problem:
                raise UpstreamInvalid(f"the blobs of {manifest.descriptor.digest} are not known: {contents.problem}")
            # What a manifest says is stored elsewhere is never requested (CVE-2020-15157).
            blobs |= {blob.digest: blob.size for blob in contents.blobs}
        return PlannedImage(route, image.reference, top.descriptor.digest, manifests, blobs)

    async def fetch(self, image: PlannedImage) -> AsyncIterator[Progressed]:
        """Pull the blobs of an image; raises RegistryError and BodyBroken."""
        done, fetched, total = 0, 0, sum(image.blobs.values())
        yield Progressed(done, total, fetched)
        for digest in image.blobs:
            async with await self._blobs.get(image.route, digest, None) as blob, aclosing(blob.pieces()) as pieces:
                is_new = blob.way is not CacheResult.HIT
                async for piece in pieces:
                    length = len(piece) if isinstance(piece, bytes) else piece.length
                    done, fetched = done + length, fetched + length * is_new
                    yield Progressed(done, max(total, done), fetched)

    async def _images(self, route: Route, top: Manifest, platforms: frozenset[str]) -> AsyncIterator[Manifest]:
        if top.descriptor.media_type not in INDEX_TYPES:
            yield top
            return
        chosen = chosen_manifests(top.content or b"", platforms)
        if not chosen:
            raise ManifestUnknown(f"the index has no manifest for {', '.join(sorted(platforms))}")
        for digest in chosen:
            yield await self._manifests.get(route, digest, None)


def chosen_manifests(index: bytes, platforms: frozenset[str]) -> list[Digest]:
    """The manifests of an index that are for the platforms (none given: all); raises DigestInvalid."""
    named = (Digest.parse(str(entry.get("digest"))) for entry in index_entries(index) if _is_wanted(entry, platforms))
    return list(dict.fromkeys(named))


def _is_wanted(entry: dict[str, Any], platforms: frozenset[str]) -> bool:
    platform = entry.get("platform")
    if not platforms or not isinstance(platform, dict):
        return True
    name = f"{platform.get('os')}/{platform.get('architecture')}"
    return bool(platforms & {name, f"{name}/{platform.get('variant')}"})
