"""Which stored digests this process has seen to be right."""

from cachetools import LRUCache

from proxy.oci.reference import Digest

REMEMBERED = 200_000
SPOILED_LIMIT = 10_000


class Verified:
    """Digests whose stored bytes were hashed in this process, and how many bytes those were."""

    def __init__(self) -> None:
        self._sizes: LRUCache[Digest, int] = LRUCache(REMEMBERED)
        self._spoiled: LRUCache[Digest, bool] = LRUCache(SPOILED_LIMIT)

    def size(self, digest: Digest) -> int | None:
        """How many bytes a digest has; None where they were not hashed here."""
        return self._sizes.get(digest)

    def add(self, digest: Digest, size: int) -> None:
        """The bytes of a digest were right."""
        self._sizes[digest] = size
        self._spoiled.pop(digest, None)

    def discard(self, digest: Digest) -> None:
        """The digest is stored no more, or was wrong."""
        self._sizes.pop(digest, None)

    def spoil(self, digest: Digest) -> None:
        """The stored bytes are wrong and cannot be dropped: they are passed over."""
        self._spoiled[digest] = True

    def is_spoiled(self, digest: Digest) -> bool:
        """Whether what is stored under the digest is to be passed over."""
        return digest in self._spoiled
