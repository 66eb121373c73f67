"""A store in memory."""

from collections.abc import AsyncIterator

from proxy.config.address import Origin
from proxy.oci.reference import Digest
from proxy.store.blobs import Content, Origins, StoreError
from proxy.store.small import SMALL_CONTENT


class MemoryContent:
    """Bytes in memory, growing or whole."""

    descriptor = None
    """There is no file."""

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self._is_closed = False

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return len(self._data)

    async def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; raises StoreError after the end."""
        if self._is_closed:
            raise StoreError("the content is closed")
        return bytes(self._data[offset : offset + length])

    def is_of(self, data: bytearray | None) -> bool:
        """Whether these are its bytes, and not equal ones."""
        return self._data is data

    def close(self) -> None:
        """Read no more."""
        self._is_closed = True


class MemoryIngest(MemoryContent):
    """Bytes that arrive."""

    def __init__(self, store: "MemoryStore", digest: Digest, domain: Origins | None) -> None:
        super().__init__(bytearray())
        self._store = store
        self._digest = digest
        self._domain = domain
        self._ended = False

    async def expect(self, total: int | None, origin: Origin) -> None:
        """Nobody else can read it."""

    async def write(self, *pieces: bytes) -> None:
        """Append the pieces in order; raises StoreError after the end."""
        self._refuse_after_end()
        self._data += b"".join(pieces)

    async def commit(self, origins: Origins | None = None) -> None:  # noqa: ARG002 - nobody asks who delivered it
        """Make it findable; raises StoreError after the end."""
        self._refuse_after_end()
        self._store.committed[self._digest] = self._data
        self._end()

    async def abort(self) -> None:
        """Drop it; does nothing after a commit."""
        if not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._store.ingesting.discard((self._digest, self._domain))

    def _refuse_after_end(self) -> None:
        if self._ended:
            raise StoreError("this download has ended")


class MemoryStore:
    """Content by digest, in a dictionary; without a bound of its own."""

    def __init__(self) -> None:
        self.committed: dict[Digest, bytearray] = {}
        self.ingesting: set[tuple[Digest, Origins | None]] = set()

    async def find(self, digest: Digest) -> MemoryContent | None:
        """The content of a digest."""
        data = self.committed.get(digest)
        return None if data is None else MemoryContent(data)

    async def small(self, digest: Digest) -> bytes | None:
        """The bytes of a digest, if they are few."""
        data = self.committed.get(digest)
        return None if data is None or len(data) > SMALL_CONTENT else bytes(data)

    async def begin(self, digest: Digest, domain: Origins | None = None) -> MemoryIngest | None:
        """Start to store a digest; None where somebody else does so now for the domain."""
        if (digest, domain) in self.ingesting:
            return None
        self.ingesting.add((digest, domain))
        return MemoryIngest(self, digest, domain)

    async def arriving(self, digest: Digest, domain: Origins | None = None) -> None:
        """There is no other process."""

    async def remove(self, digest: Digest, content: Content | None = None) -> bool:
        """Drop a digest; with `content` only if that is what is stored."""
        if isinstance(content, MemoryContent) and not content.is_of(self.committed.get(digest)):
            return False
        return self.committed.pop(digest, None) is not None

    async def list(self) -> AsyncIterator[tuple[Digest, int]]:
        """Every digest and its size."""
        for digest, data in list(self.committed.items()):
            yield digest, len(data)
