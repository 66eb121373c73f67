"""Images pulled through the listener of a running proxy, so that its cache has them; what is read is discarded."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import aiohttp

from proxy.config.base import readable_size
from proxy.oci.descriptor import ACCEPT, INDEX_TYPES, MANIFEST_LIMIT, ParsedManifest, parse_manifest
from proxy.oci.errors import RegistryError
from proxy.oci.reference import Digest, ImageReference, Tag
from proxy.prefetch.images import Progressed, chosen_manifests
from proxy.prefetch.listener import ListenerClient, PrefetchFailed, read_limited
from proxy.pull.blobs.live import CacheResult

CHUNK = 256 * 1024
"""Bytes of a blob that are read at once."""
BLOB_LIMIT = 1 << 40
"""Bytes of a blob whose manifest does not say how large it is."""


@dataclass(frozen=True, slots=True)
class ServedImage:
    """An image as the proxy served it, with sizes in bytes."""

    name: ImageReference
    top: Digest
    manifests: Mapping[Digest, int]
    blobs: Mapping[Digest, int]
    progress: Progressed


@dataclass(frozen=True, slots=True)
class _ServedManifest:
    digest: Digest
    content: bytes
    parsed: ParsedManifest
    media_type: str


class ThroughPrefetch:
    """Pulls images through one listener."""

    def __init__(self, client: ListenerClient) -> None:
        self._client = client

    async def fetch(
        self, image: ImageReference, platforms: frozenset[str], advance: Callable[[Progressed], None]
    ) -> ServedImage:
        """Pull one image and verify each digest; raises PrefetchFailed."""
        top = await self._manifest(image, image.reference)
        manifests, blobs = {top.digest: len(top.content)}, dict[Digest, int]()
        for manifest in await self._images(image, top, platforms):
            manifests[manifest.digest] = len(manifest.content)
            contents = manifest.parsed.contents
            if contents.problem:
                raise PrefetchFailed(f"the blobs of {manifest.digest} are not known: {contents.problem}")
            blobs |= {blob.digest: blob.size for blob in contents.blobs}
        step = Progressed(0, sum(blobs.values()), 0)
        advance(step)
        for digest, size in blobs.items():
            step = await self._blob(image, digest, size, step, advance)
        return ServedImage(image, top.digest, manifests, blobs, step)

    async def problems(self, images: Sequence[ServedImage]) -> list[str | None]:
        """Why the proxy's cache does not have each image as a whole; None where it does.

        Nothing is downloaded for that: the requests are HEAD.
        """
        together: dict[Digest, int] = {}
        for image in images:
            together |= {**image.manifests, **image.blobs}
        need = f"the images together need {readable_size(sum(together.values()))}"
        return [await self._problem(image, need) for image in images]

    async def _problem(self, image: ServedImage, need: str) -> str | None:
        try:
            missing = await self._missing(image)
        except PrefetchFailed as error:
            return str(error)
        if missing is None:
            return None
        what, way = missing
        if way == CacheResult.BYPASS:
            return f"the proxy does not cache it: {what} is served with X-Cache: bypass; see its log and status page"
        return (
            f"is not complete in the proxy's cache: {what} is missing. It does not fit, pinned images leave too little "
            f"room, or a later image evicted it: {need}; increase the proxy's maxSize, or remove pins"
        )

    async def _missing(self, image: ServedImage) -> tuple[str, str] | None:
        """What the proxy does not serve from its cache, and how it serves it; raises PrefetchFailed."""
        if isinstance(image.name.reference, Tag):
            digest, _ = await self._head(image, f"manifests/{image.name.reference}")
            if digest != str(image.top):
                raise PrefetchFailed(f"tag {image.name.reference} moved during the prefetch: run it again")
        objects = [(f"manifests/{digest}", f"manifest {digest}") for digest in image.manifests]
        objects += [(f"blobs/{digest}", f"blob {digest}") for digest in image.blobs]
        for suffix, what in objects:
            _, way = await self._head(image, suffix)
            if way != CacheResult.HIT:
                return what, way
        return None

    async def _head(self, image: ServedImage, suffix: str) -> tuple[str, str]:
        """The digest that the proxy reports, and how it serves it."""

        async def read(response: aiohttp.ClientResponse) -> tuple[str, str]:
            return response.headers.get("Docker-Content-Digest", ""), response.headers.get("X-Cache", "")

        return await self._client.request(image.name, suffix, read, method="HEAD", headers={"Accept": ACCEPT})

    async def _images(
        self, image: ImageReference, top: _ServedManifest, platforms: frozenset[str]
    ) -> list[_ServedManifest]:
        if top.media_type not in INDEX_TYPES:
            return [top]
        try:
            chosen = await asyncio.to_thread(chosen_manifests, top.content, platforms)
        except (RegistryError, RecursionError) as error:
            raise PrefetchFailed(f"the index {top.digest} cannot be read: {error}") from None
        if not chosen:
            raise PrefetchFailed(f"the index has no manifest for {', '.join(sorted(platforms))}")
        return [await self._manifest(image, digest) for digest in chosen]

    async def _manifest(self, image: ImageReference, reference: Tag | Digest) -> _ServedManifest:
        async def read(response: aiohttp.ClientResponse) -> _ServedManifest:
            content = await read_limited(response, MANIFEST_LIMIT)
            expected = reference if isinstance(reference, Digest) else None
            digest = Digest.of(content, expected.algorithm if expected else "sha256")
            if expected is not None and digest != expected:
                _report_mismatch(expected)
            parsed = await asyncio.to_thread(parse_manifest, content)
            try:
                media_type = parsed.media_type(response.headers.get("Content-Type"))
            except RegistryError as error:
                raise PrefetchFailed(str(error)) from None
            return _ServedManifest(digest, content, parsed, media_type)

        return await self._client.request(image, f"manifests/{reference}", read, headers={"Accept": ACCEPT})

    async def _blob(
        self,
        image: ImageReference,
        digest: Digest,
        size: int,
        before: Progressed,
        advance: Callable[[Progressed], None],
    ) -> Progressed:
        """Read one blob and discard it; the progress behind it."""

        async def read(response: aiohttp.ClientResponse) -> Progressed:
            hasher, step, received = digest.hasher(), before, 0
            is_new = response.headers.get("X-Cache") != CacheResult.HIT
            async for piece in response.content.iter_chunked(CHUNK):
                received += len(piece)
                if received > (size or BLOB_LIMIT):
                    raise PrefetchFailed(f"{digest} is larger than its manifest says")
                hasher.update(piece)
                done, fetched = before.done + received, before.fetched + received * is_new
                step = Progressed(done, max(before.total, done), fetched)
                advance(step)
            if hasher.hexdigest() != digest.hex:
                _report_mismatch(digest)
            return step

        return await self._client.request(image, f"blobs/{digest}", read)


def _report_mismatch(digest: Digest) -> NoReturn:
    raise PrefetchFailed(f"digest mismatch: the proxy sent content that does not match {digest}")
