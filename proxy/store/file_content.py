"""Files that are read, written, and seen growing."""

import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.config.address import Origin
from proxy.oci.reference import Digest
from proxy.store.blobs import Arrival, Origins, StoreError
from proxy.store.disk import in_thread, to_the_end, translated
from proxy.store.files import Writeback, make_folder, sync_folder, write_at
from proxy.store.index import Index
from proxy.store.layout import Layout
from proxy.store.lease import Lease, LeaseView, is_at
from proxy.store.provenance import Provenance, append_delivery

_logger = logging.getLogger(__name__)


class FileContent:
    """An open file. Deleting the file changes nothing for who has it open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """The open file; -1 once it is closed."""
        self.size = os.fstat(descriptor).st_size
        """Bytes that are there."""

    async def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; raises StoreError."""
        with translated("cannot read from the cache"):
            return await in_thread(functools.partial(os.pread, self.descriptor, length, offset))

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class PartPlace:
    """The digest that a part file is for, and the trust domain whose writer writes it (`domain_name`)."""

    layout: Layout
    digest: Digest
    domain: str

    @property
    def part(self) -> Path:
        """The part file."""
        return self.layout.part(self.digest, self.domain)

    @property
    def lock(self) -> Path:
        """The file whose lock is the right to write it."""
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
        """Leave the blob's size and its endpoint for followers in other processes; raises StoreError."""
        with translated("cannot write to the cache"):
            await to_the_end(functools.partial(self._expect, -1 if total is None else total, origin))

    async def write(self, *pieces: bytes) -> None:
        """Append the pieces in order; raises StoreError."""
        with translated("cannot write to the cache"):
            await to_the_end(functools.partial(self._write, pieces))

    async def commit(self, origins: Origins | None = None) -> None:
        """Make the bytes and their name durable, then note who delivered them, and them in the index.

        Raises StoreError.
        """
        digest = self._place.digest
        with translated("cannot commit to the cache"):
            await to_the_end(functools.partial(self._commit, origins))
        if origins is not None:
            self._provenance.remember(digest, origins)
        try:
            await self._index.add(digest)
        except StoreError as error:  # it is stored all the same
            _logger.warning("%s is not in the index yet: %s", digest, error)
            self._index.touch(digest)

    async def abort(self) -> None:
        """Remove the part file; does nothing after a commit."""
        await to_the_end(self.drop)

    def drop(self) -> None:
        """Remove the part file and give the lease up. Blocking; a disk that refuses is left as it is."""
        if self._ended:
            return
        self._ended = True
        try:
            self._place.part.unlink(missing_ok=True)
        except OSError as error:
            _logger.warning("a part file stays behind: %s", error.strerror)
        self._release()

    def leave(self) -> None:
        """Give the lease up and close the file, and leave the bytes to the next writer. Blocking."""
        self._ended = True
        self._release()
        self.close()

    def _expect(self, total: int, origin: Origin) -> None:
        self._refuse_after_end()
        self._lease.tell_origin(str(origin))
        self._lease.tell(total)  # last: who sees it sees both

    def _write(self, pieces: Sequence[bytes]) -> None:
        self._refuse_after_end()
        self.size = write_at(self.descriptor, self.size, pieces)
        self._writeback.follow(self.descriptor, self.size)

    def _commit(self, origins: Origins | None) -> None:
        self._refuse_after_end()
        part, target = self._place.part, self._place.layout.blob(self._place.digest)
        if not is_at(self.descriptor, part):
            raise StoreError("cannot commit to the cache: somebody has removed the part file")
        os.fsync(self.descriptor)
        make_folder(target.parent)
        part.rename(target)
        sync_folder(target.parent)
        if origins is not None:
            append_delivery(self._place.layout, self._place.digest, origins)
        self._lease.tell_committed(self.descriptor)
        self._ended = True
        self._release()

    def _refuse_after_end(self) -> None:
        if self._ended:
            raise StoreError("cannot write to the cache: this download has ended")

    def _release(self) -> None:
        try:
            self._lease.release()
        except OSError as error:
            _logger.warning("a lock file stays behind: %s", error.strerror)


class FileArriving(FileContent):
    """A part file that another process writes; renaming it keeps the file, so what is open stays the same bytes."""

    def __init__(self, descriptor: int, lease: LeaseView) -> None:
        super().__init__(descriptor)
        self._lease = lease
        self.total: int | None = None
        self.origin: Origin | None = None

    async def poll(self) -> Arrival:
        """Look again; raises StoreError."""
        with translated("cannot read from the cache"):
            return await to_the_end(self._poll)

    def close(self) -> None:
        """Close the files."""
        if self.descriptor >= 0:
            self._lease.close()
        super().close()

    def _poll(self) -> Arrival:
        if self.total is None:
            self.total = self._lease.told()
            self.origin = _origin(self._lease.origin()) if self.total is not None else None
        # In this order: whoever has committed, or let go, writes no more, so the size that follows is the last one.
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
