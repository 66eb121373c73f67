"""Open files of the store: committed blobs, part files being written, part files of other processes."""

import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.config.address import Origin
from proxy.oci.reference import Digest
from proxy.store.blobs import Arrival, Origins, StoreError
from proxy.store.disk import in_thread, store_errors, to_the_end
from proxy.store.files import Writeback, make_directory, sync_directory, write_at
from proxy.store.index import Index
from proxy.store.layout import Layout
from proxy.store.lease import Lease, LeaseView, is_at
from proxy.store.provenance import Provenance, append_delivery

_logger = logging.getLogger(__name__)


class FileContent:
    """An open file; it stays readable after the file is deleted."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """The open file; -1 once it is closed."""
        self.size = os.fstat(descriptor).st_size
        """Bytes that can be read."""

    async def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; raises StoreError."""
        with store_errors("cannot read from the cache"):
            return await in_thread(functools.partial(os.pread, self.descriptor, length, offset))

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class PartPlace:
    """The digest of a part file, and the trust domain of its writer (`domain_name`)."""

    layout: Layout
    digest: Digest
    domain: str

    @property
    def part(self) -> Path:
        """The part file."""
        return self.layout.part(self.digest, self.domain)

    @property
    def lock(self) -> Path:
        """The lock file; the holder of its lock may write the part."""
        return self.layout.lock(self.digest, self.domain)


class FileIngest(FileContent):
    """A part file, under a lease."""

    def __init__(self, place: PartPlace, index: Index, provenance: Provenance, lease: Lease, descriptor: int) -> None:
        super().__init__(descriptor)
        self._place = place
        self._index = index
        self._provenance = provenance
        self._lease = lease
        self._writeback = Writeback(self.size)
        self._ended = False

    async def expect(self, total: int | None, origin: Origin) -> None:
        """Report the blob's size and its endpoint to followers in other processes; raises StoreError."""
        with store_errors("cannot write to the cache"):
            await to_the_end(functools.partial(self._expect, -1 if total is None else total, origin))

    async def write(self, *pieces: bytes) -> None:
        """Append the pieces in order; raises StoreError."""
        with store_errors("cannot write to the cache"):
            await to_the_end(functools.partial(self._write, pieces))

    async def commit(self, origins: Origins | None = None) -> None:
        """Make the bytes and their name durable, then record the delivery and add the blob to the index.

        Raises StoreError.
        """
        digest = self._place.digest
        with store_errors("cannot commit to the cache"):
            await to_the_end(functools.partial(self._commit, origins))
        if origins is not None:
            self._provenance.remember(digest, origins)
        try:
            await self._index.add(digest)
        except StoreError as error:  # the blob is stored nevertheless
            _logger.warning("%s is not in the index yet: %s", digest, error)
            self._index.touch(digest)

    async def abort(self) -> None:
        """Remove the part file; does nothing after a commit."""
        await to_the_end(self.drop)

    def drop(self) -> None:
        """Remove the part file and release the lease. Blocking; logs what the disk refuses to remove."""
        if self._ended:
            return
        self._ended = True
        try:
            self._place.part.unlink(missing_ok=True)
        except OSError as error:
            _logger.warning("cannot remove the part file of a download: %s", error.strerror)
        self._release()

    def leave(self) -> None:
        """Release the lease and close the file, but keep the bytes for the next writer. Blocking."""
        self._ended = True
        self._release()
        self.close()

    def _expect(self, total: int, origin: Origin) -> None:
        self._refuse_after_end()
        self._lease.report_origin(str(origin))
        self._lease.report_size(total)  # last: a reader that sees the size also sees the origin

    def _write(self, pieces: Sequence[bytes]) -> None:
        self._refuse_after_end()
        self.size = write_at(self.descriptor, self.size, pieces)
        self._writeback.follow(self.descriptor, self.size)

    def _commit(self, origins: Origins | None) -> None:
        self._refuse_after_end()
        part, target = self._place.part, self._place.layout.blob(self._place.digest)
        if not is_at(self.descriptor, part):
            raise StoreError("cannot commit to the cache: another process removed the part file")
        os.fsync(self.descriptor)
        make_directory(target.parent)
        part.rename(target)
        sync_directory(target.parent)
        if origins is not None:
            append_delivery(self._place.layout, self._place.digest, origins)
        self._lease.report_committed(self.descriptor)
        self._ended = True
        self._release()

    def _refuse_after_end(self) -> None:
        if self._ended:
            raise StoreError("cannot write to the cache: this download has ended")

    def _release(self) -> None:
        try:
            self._lease.release()
        except OSError as error:
            _logger.warning("cannot remove the lock file of a download: %s", error.strerror)


class FileArriving(FileContent):
    """A part file that another process writes; the open file stays the same when the writer renames it."""

    def __init__(self, descriptor: int, lease: LeaseView) -> None:
        super().__init__(descriptor)
        self._lease = lease
        self.total: int | None = None
        self.origin: Origin | None = None

    async def poll(self) -> Arrival:
        """Update size, total and origin, and return the state; raises StoreError."""
        with store_errors("cannot read from the cache"):
            return await to_the_end(self._poll)

    def close(self) -> None:
        """Close the files."""
        if self.descriptor >= 0:
            self._lease.close()
        super().close()

    def _poll(self) -> Arrival:
        if self.total is None:
            self.total = self._lease.reported_size()
            self.origin = _origin(self._lease.origin()) if self.total is not None else None
        # In this order: a writer that committed or released its lease writes no more, so the size read last is final.
        held = self._lease.is_held()
        committed = self._lease.committed(self.descriptor)
        self.size = os.fstat(self.descriptor).st_size
        if committed:
            return Arrival.COMMITTED
        return Arrival.GROWING if held else Arrival.ABANDONED


def _origin(text: str) -> Origin | None:
    try:
        return Origin.parse(text)
    except ValueError:
        return None
