"""Which blob of a manifest is the smallest; pure."""

from proxy.oci.descriptor import parse_manifest
from proxy.oci.reference import Digest


def smallest_blob(manifest: bytes) -> tuple[Digest, int] | None:
    """Digest and size in bytes of the smallest blob that a manifest holds; empty ones aside."""
    sized = [(blob.digest, blob.size) for blob in parse_manifest(manifest).contents.blobs if blob.size > 0]
    return min(sized, key=lambda pair: pair[1], default=None)
