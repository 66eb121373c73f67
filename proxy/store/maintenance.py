"""Maintenance: removes orphaned and expired files, compares the index with the files, verifies stored blobs."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.oci.reference import Digest
from proxy.store.blobs import BlobStore
from proxy.store.files import children, regular_size
from proxy.store.format import EMPTIED
from proxy.store.layout import ALGORITHMS, PREFIXES, Layout, digest_of, mark_of
from proxy.store.lease import Lease

TEMPORARY_SECONDS = 3600.0
"""Age from which a temporary file counts as orphaned: its process has ended."""
TAG_SECONDS = 90 * 86400.0
"""Age from which a tag that was not confirmed again is removed."""


def sweep(layout: Layout) -> int:
    """Remove the part and lock files that no writer holds; returns the number of parts. Raises OSError.

    Takes the lease of each one first: otherwise a writer that begins at this moment would lose its part.
    """
    swept = 0
    paths = [Path(entry.path) for entry in children(layout.ingest)]
    for stem in sorted({path.with_suffix("") for path in paths if path.suffix in {".part", ".lock"}}):
        with contextlib.suppress(IsADirectoryError, PermissionError):
            lease = Lease.take(stem.with_suffix(".lock"))
            if lease is None:
                continue
            part = stem.with_suffix(".part")
            try:
                swept += os.path.lexists(part)
                part.unlink(missing_ok=True)
            finally:
                lease.release()
    return swept


def tidy(layout: Layout, compare: Callable[[str, str], None], *, tags_expire: bool = True) -> Iterator[None]:
    """Remove older stores, compare blobs with the index, clean repositories; one directory per step.

    Raises what `compare` raises, and OSError.
    """
    yield from _remove_older_stores(layout)
    for algorithm in ALGORITHMS:
        for prefix in PREFIXES:
            compare(algorithm, prefix)
            _clean_provenance(layout, algorithm, prefix)
            yield
    for prefix in PREFIXES:
        for entry in children(layout.repositories / prefix):
            _clean(layout, Path(entry.path), tags_expire=tags_expire)
        yield


def _remove_older_stores(layout: Layout) -> Iterator[None]:
    for entry in children(layout.root):
        if entry.name.startswith(EMPTIED):
            for directory, names, files in os.walk(entry.path, topdown=False):
                for name in (*names, *files):
                    path = Path(directory) / name
                    with contextlib.suppress(OSError):  # another process may remove it too; the next start retries
                        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
                yield
            with contextlib.suppress(OSError):
                Path(entry.path).rmdir()


def _clean_provenance(layout: Layout, algorithm: str, prefix: str) -> None:
    """Remove old records of deliveries without a blob; the blob of a recent one may be about to be committed."""
    now = time.time()
    for entry in children(layout.root / "provenance" / algorithm / prefix):
        digest = digest_of(f"{algorithm}:{entry.name}")
        if digest is None or regular_size(layout.blob(digest)) is None:
            _remove_older(Path(entry.path), now - TEMPORARY_SECONDS)


def _clean(layout: Layout, repository: Path, *, tags_expire: bool) -> None:
    now = time.time()
    for directory in (repository, repository / "tags"):
        for entry in children(directory):
            if entry.name.startswith("."):
                _remove_older(Path(entry.path), now - TEMPORARY_SECONDS)
    for entry in children(repository / "tags") if tags_expire else ():
        _remove_older(Path(entry.path), now - TAG_SECONDS)
    for digest in layout.marked(repository):
        if regular_size(layout.blob(digest)) is None:
            marker = mark_of(repository, digest)
            _remove_older(marker, now - TEMPORARY_SECONDS)


def _remove_older(path: Path, than: float) -> None:
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        if path.lstat().st_mtime < than:
            path.unlink()


BATCH = 1024 * 1024
"""Bytes read and hashed at a time."""


@dataclass(frozen=True, slots=True)
class CheckedObject:
    """One object, and whether its bytes match its digest."""

    digest: Digest
    size: int
    is_right: bool


async def verify_all(store: BlobStore) -> AsyncIterator[CheckedObject]:
    """Hash every object and remove those with a digest mismatch. Raises StoreError."""
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
        yield CheckedObject(digest, size, is_right)
