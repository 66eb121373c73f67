"""Hashing everything that is stored again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from proxy.oci.reference import Digest
from proxy.store.blobs import BlobStore

BATCH = 1024 * 1024
"""Bytes that are read and hashed in one go."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One object, and whether its bytes have its digest."""

    digest: Digest
    size: int
    is_right: bool


async def verify_all(store: BlobStore) -> AsyncIterator[Checked]:
    """Check every object; what is wrong is removed. Raises StoreError."""
    async for digest, size in store.list():
        content = await store.find(digest)
        if content is None:
            continue  # evicted meanwhile
        hasher, offset = digest.hasher(), 0
        try:
            while data := await content.read(offset, BATCH):
                await asyncio.to_thread(hasher.update, data)
                offset += len(data)
            is_right = hasher.hexdigest() == digest.hex
            if not is_right:
                await store.remove(digest, content)
        finally:
            content.close()
        yield Checked(digest, size, is_right)
