"""Which digests are manifests: those are never served as blobs.

An answer under `/blobs/` for the digest of a manifest poisons the image stores of older containerd versions for good
(containerd 13007, 10136). What a digest is never changes, so it is remembered.
"""

from cachetools import LRUCache

from proxy.oci.descriptor import ParsedManifest
from proxy.oci.reference import Digest

REMEMBERED = 50_000
"""Most digests whose kind is remembered."""


class Kinds:
    """Remembers of digests whether their bytes, seen and verified, were a manifest."""

    def __init__(self) -> None:
        self._is_manifest: LRUCache[Digest, bool] = LRUCache(REMEMBERED)

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


def may_begin_manifest(beginning: bytes) -> bool:
    """Whether a manifest can begin with these bytes: layers are compressed and do not."""
    return beginning.lstrip(b" \t\r\n")[:1] in (b"", b"{")
