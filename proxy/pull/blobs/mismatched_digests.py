"""Digests of which corrupt content was sent: clients of a registry hold a corrupt beginning of them.

Where there is a cache they are noted in its directory: the client that was cut off may come back to another worker, or
after a restart.
"""

import contextlib
import functools
import hashlib
import time
from pathlib import Path

from cachetools import TTLCache

from proxy.oci.byterange import ByteRange
from proxy.oci.errors import UpstreamUnavailable
from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.disk import LOOKUPS
from proxy.store.files import DIRECTORY_MODE, FILE_MODE

SUSPECT_SECONDS = 60.0
"""How long no part of a blob is served after corrupt content of it was sent."""
SUSPECTS_LIMIT = 1024
"""Most digests that are remembered in memory, and most notes in the directory."""


class MismatchedDigests:
    """Remembers them for a minute."""

    def __init__(self, directory: Path | None = None, limit: int = SUSPECTS_LIMIT) -> None:
        self._directory = directory
        self._limit = limit
        self._digests: TTLCache[tuple[str, Digest], bool] = TTLCache(limit, SUSPECT_SECONDS)

    async def add(self, registry: str, digest: Digest) -> None:
        """Corrupt content of the digest was sent to a client that named this registry."""
        self._digests[registry, digest] = True
        if self._directory is not None:
            with contextlib.suppress(StoreError):  # a disk that hangs
                await LOOKUPS.in_time(functools.partial(_note, self._directory, _name(registry, digest), self._limit))

    async def refuse_tail(self, registry: str, digest: Digest, wanted: ByteRange | None) -> None:
        """Refuse a range that begins later: joined to its bad beginning a good tail is of no use to the client."""
        if wanted is None or wanted.first == 0:
            return
        suspect = (registry, digest) in self._digests
        if not suspect and self._directory is not None:
            with contextlib.suppress(StoreError):  # a disk that hangs: what this process knows is all that is known
                suspect = await LOOKUPS.in_time(functools.partial(_is_young, self._directory / _name(registry, digest)))
        if suspect:
            reason = f"corrupt content of {digest} was sent: it is served only from its beginning, for a minute"
            raise UpstreamUnavailable(reason, retry_after=SUSPECT_SECONDS)


def _note(directory: Path, name: str, limit: int) -> None:
    """Leave a note for other processes; on a failing disk there is none, and none of theirs either."""
    with contextlib.suppress(OSError):
        directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        notes = sorted(directory.iterdir(), key=lambda note: note.stat().st_mtime)
        surplus = len(notes) - limit
        for number, note in enumerate(notes):
            if number < surplus or not _is_young(note):
                note.unlink(missing_ok=True)
        (directory / name).touch(mode=FILE_MODE)


def _is_young(note: Path) -> bool:
    try:
        return abs(time.time() - note.stat().st_mtime) < SUSPECT_SECONDS
    except OSError:
        return False


def _name(registry: str, digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}-{hashlib.sha256(registry.encode()).hexdigest()[:16]}"
