"""Content-addressed files: written as part files, verified, made durable, then renamed to their digest."""

import contextlib
import functools
import itertools
import os
from collections.abc import AsyncIterator, Iterator

from proxy.oci.reference import Digest
from proxy.store.blobs import Content, Origins
from proxy.store.disk import LOOKUPS, store_errors, to_the_end
from proxy.store.file_content import FileArriving, FileContent, FileIngest, PartPlace
from proxy.store.files import FILE_MODE, open_regular, regular_size
from proxy.store.format import open_directory
from proxy.store.index import Index
from proxy.store.layout import Layout
from proxy.store.lease import Lease, LeaseView, is_at
from proxy.store.provenance import Provenance, domain_name
from proxy.store.small import SmallReader

_LIST_BATCH = 1000


class FilesystemStore:
    """A BlobStore that keeps blobs in files."""

    def __init__(self, layout: Layout, index: Index) -> None:
        self._layout = layout
        self._index = index
        self._small = SmallReader(layout)
        self.provenance = Provenance(layout)

    async def small(self, digest: Digest) -> bytes | None:
        """The bytes of a small stored blob; raises StoreError."""
        with store_errors("cannot read from the cache"):
            content = await self._small.read(digest)
        if content is not None:
            self._index.touch(digest)
        return content

    async def find(self, digest: Digest) -> FileContent | None:
        """The file of a digest; raises StoreError."""
        with store_errors("cannot open from the cache"):
            content = await LOOKUPS.in_time(functools.partial(self._find, digest), _close)
        if content is not None:
            self._index.touch(digest)
        return content

    async def begin(self, digest: Digest, domain: Origins | None = None) -> FileIngest | None:
        """Start to store a digest; None if another writer of the domain holds it. Raises StoreError."""
        place = PartPlace(self._layout, digest, domain_name(domain))
        with store_errors("cannot write to the cache"):
            return await LOOKUPS.in_time(functools.partial(self._begin, place), _leave)

    async def arriving(self, digest: Digest, domain: Origins | None = None) -> FileArriving | None:
        """The part file that another process writes now for the domain; raises StoreError."""
        place = PartPlace(self._layout, digest, domain_name(domain))
        with store_errors("cannot open from the cache"):
            return await LOOKUPS.in_time(functools.partial(_arriving, place), _close)

    async def remove(self, digest: Digest, content: Content | None = None) -> bool:
        """Remove a digest; with `content` only if that file is still the stored one. Raises StoreError."""
        with store_errors("cannot remove from the cache"):
            removed = await to_the_end(functools.partial(_unlink, self._layout, digest, content))
        await self._index.remove([digest])
        return removed

    async def list(self) -> AsyncIterator[tuple[Digest, int]]:
        """Every digest and its size, from the files themselves; raises StoreError."""
        sizes = self._sizes()
        while True:
            with store_errors("cannot list the cache"):
                batch = await to_the_end(functools.partial(_take, sizes))
            if not batch:
                return
            for item in batch:
                yield item

    def _sizes(self) -> Iterator[tuple[Digest, int]]:
        for digest in self._layout.blobs():
            size = regular_size(self._layout.blob(digest))
            if size is not None:  # else it was removed meanwhile
                yield digest, size

    def _find(self, digest: Digest) -> FileContent | None:
        descriptor = open_regular(self._layout.blob(digest))
        return None if descriptor is None else FileContent(descriptor)

    def _begin(self, place: PartPlace) -> FileIngest | None:
        try:
            lease = Lease.take(place.lock)
        except FileNotFoundError:  # another process emptied the directory
            open_directory(self._layout)
            lease = Lease.take(place.lock)
        if lease is None:
            return None
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(place.part, flags, FILE_MODE)
            return FileIngest(place, self._index, self.provenance, lease, descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                lease.release()
            raise


def _arriving(place: PartPlace) -> FileArriving | None:
    lease = LeaseView.open(place.lock)
    if lease is None:
        return None
    arriving = None
    try:
        descriptor = open_regular(place.part)
        if descriptor is not None:
            arriving = FileArriving(descriptor, lease)
    finally:
        if arriving is None:
            lease.close()
    # The lease is held before and after the open: so the part belongs to this lease, not to a later one.
    if arriving is not None and not lease.is_held():
        arriving.close()
        return None
    return arriving


def _close(content: FileContent | None) -> None:
    if content is not None:
        content.close()


def _leave(ingest: FileIngest | None) -> None:
    if ingest is not None:
        ingest.leave()


def _unlink(layout: Layout, digest: Digest, content: Content | None) -> bool:
    descriptor = content.descriptor if content is not None else None
    # It may have been evicted and stored again since it was opened: then the stored file is another one.
    if descriptor is not None and not is_at(descriptor, layout.blob(digest)):
        return False
    try:
        layout.blob(digest).unlink()
    except FileNotFoundError:
        return False
    finally:
        layout.provenance(digest).unlink(missing_ok=True)
    return True


def _take(sizes: Iterator[tuple[Digest, int]]) -> list[tuple[Digest, int]]:
    return list(itertools.islice(sizes, _LIST_BATCH))
