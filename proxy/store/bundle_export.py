"""Stored images into a bundle: for each its manifests and blobs, for the platforms of which all content is stored."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from proxy.oci.descriptor import INDEX_TYPES, MANIFEST_LIMIT, Contents, Descriptor, parse_manifest
from proxy.oci.reference import Digest, ImageReference
from proxy.routing.table import Route
from proxy.store.bundle import NamedManifest, beginning, blob_name, ending, header, padding
from proxy.store.bundle_import import BATCH, DEPTH_LIMIT, Advance
from proxy.store.layout import Link, LinkKind
from proxy.store.opened import OpenedStore
from proxy.store.tags import TagEntry
from proxy.store.tar_entries import BundleError


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """An image as it goes into a bundle: its sizes by digest, and the manifests that are left out."""

    image: ImageReference
    manifest: Descriptor
    sizes: Mapping[Digest, int]
    left_out: int

    @property
    def size(self) -> int:
        """Bytes of its content."""
        return sum(self.sizes.values())


class Collector:
    """Finds what of an image is stored."""

    def __init__(self, store: OpenedStore) -> None:
        self._store = store

    async def collect(self, image: ImageReference, route: Route) -> ExportedImage:
        """All of an image that can be exported; raises BundleError and StoreError."""
        digest = await self._digest(image, route)
        sizes: dict[Digest, int] = {}
        left_out = await self._add(route, digest, sizes, {}, 0) if digest is not None else None
        if digest is None or left_out is None:
            state = "not in the cache" if digest is None else "not complete in the cache"
            raise BundleError(f"{image} is {state}: run 'scope-proxy cache prefetch {image}' first")
        manifest = Descriptor(str((await self._parsed(digest))[0]), digest, sizes[digest])
        return ExportedImage(image, manifest, sizes, left_out)

    async def _digest(self, image: ImageReference, route: Route) -> Digest | None:
        """What the image's name points to, as it was last confirmed."""
        keys, reference = route.keys(), image.reference
        if isinstance(reference, Digest):
            link = Link(reference, LinkKind.MANIFEST)
            return reference if any([await self._store.tags.is_linked(key, link) for key in keys]) else None
        candidates = [await self._store.tags.find(key, reference) for key in keys]
        entries: list[TagEntry] = [entry for entry in candidates if entry is not None]
        return max(entries, key=lambda entry: entry.confirmed).descriptor.digest if entries else None

    async def _add(
        self, route: Route, digest: Digest, sizes: dict[Digest, int], known: dict[Digest, int | None], depth: int
    ) -> int | None:
        """Add a manifest and what it holds to `sizes`; the number of manifests left out, None for this one itself.

        `known` has the results so far.
        """
        size = await self._store.stored_size(digest, route.domain)
        if size is None or depth > DEPTH_LIMIT:
            return None
        media_type, contents = await self._parsed(digest)
        subtree = {digest: size}
        left_out = 0
        for held in contents.blobs:
            stored = await self._store.stored_size(held.digest, route.domain)
            if stored is None:
                return None
            subtree[held.digest] = stored
        for child in dict.fromkeys(held.digest for held in contents.manifests):
            if child not in known:
                known[child] = await self._add(route, child, subtree, known, depth + 1)
            below = known[child]
            left_out += 1 if below is None else below
        if media_type in INDEX_TYPES and len(subtree) == 1:
            return None  # no platform is complete
        sizes |= subtree
        return left_out

    async def _parsed(self, digest: Digest) -> tuple[str | None, Contents]:
        content = await self._store.blobs.find(digest)
        if content is None:
            return None, Contents()
        try:
            data = await content.read(0, MANIFEST_LIMIT)
        finally:
            content.close()
        if Digest.of(data, digest.algorithm) != digest:
            raise BundleError(f"manifest {digest} is corrupt in the cache: run 'scope-proxy cache verify'")
        parsed = parse_manifest(data)
        if parsed.own_type is None or parsed.contents.problem:
            raise BundleError(f"manifest {digest} cannot be exported: {parsed.contents.problem or 'it has no type'}")
        return parsed.own_type, parsed.contents


async def export(store: OpenedStore, images: Sequence[ExportedImage], path: Path, advance: Advance) -> None:
    """Write a bundle, in the place of what is at `path` only once it is complete; raises BundleError, StoreError."""
    listed = sorted({str(each.image): each for each in images}.items())
    sizes = {digest: size for _, each in listed for digest, size in sorted(each.sizes.items(), key=_by_digest)}
    async with _replacement(path) as file:
        await _write(file, beginning(NamedManifest(name, each.manifest) for name, each in listed))
        for digest, size in sizes.items():
            await _write_blob(store, digest, size, file, advance)
        await _write(file, ending())


async def _write_blob(store: OpenedStore, digest: Digest, size: int, file: IO[bytes], advance: Advance) -> None:
    """Write one blob, verified; raises BundleError where it is corrupt or was evicted."""
    content = await store.blobs.find(digest)
    if content is None or content.size != size:
        raise BundleError(f"{digest} was evicted meanwhile: run 'scope-proxy cache prefetch', and export again")
    hasher, offset = digest.hasher(), 0
    try:
        await _write(file, header(blob_name(digest), size))
        while offset < size and (data := await content.read(offset, BATCH)):
            await asyncio.to_thread(hasher.update, data)
            await _write(file, data)
            offset += len(data)
            advance(len(data))
    finally:
        content.close()
    if hasher.hexdigest() != digest.hex:
        raise BundleError(f"{digest} is corrupt in the cache: run 'scope-proxy cache verify', and prefetch the image")
    await _write(file, padding(size))


async def _write(file: IO[bytes], data: bytes) -> None:
    try:
        await asyncio.to_thread(file.write, data)
    except OSError as error:
        raise _unwritable(error) from None


@asynccontextmanager
async def _replacement(path: Path) -> AsyncIterator[IO[bytes]]:
    """A file that takes the place of the one at `path`, unless the block raises; raises BundleError."""
    if await asyncio.to_thread(_is_special, path):
        raise BundleError("it is a device or a link, which a file must not replace: name a regular file")
    try:
        file = await asyncio.to_thread(_temporary, path)
    except OSError as error:
        raise _unwritable(error) from None
    try:
        yield file
        await asyncio.to_thread(_finish, file, path)
    except OSError as error:
        raise _unwritable(error) from None
    finally:
        await asyncio.to_thread(_discard, file)


def _is_special(path: Path) -> bool:
    """Whether there is something that is not a regular file, such as /dev/stdout."""
    return os.path.lexists(path) and (path.is_symlink() or not path.is_file())


def _temporary(path: Path) -> IO[bytes]:
    return tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:100]}.", delete=False)


def _finish(file: IO[bytes], path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    Path(file.name).replace(path)


def _discard(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk: what is buffered is not wanted
        file.close()
    with contextlib.suppress(OSError):
        Path(file.name).unlink(missing_ok=True)


def _unwritable(error: OSError) -> BundleError:
    return BundleError(f"it cannot be written: {error.strerror}")


def _by_digest(item: tuple[Digest, int]) -> str:
    return item[0].text
