"""Digests of which wrong bytes have gone out: clients of a registry hold a bad beginning of them.

Where there is a cache they are noted in its folder: the client that was cut may come back to another worker, or after a
restart.
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
"""How long no part of a blob is served after wrong bytes of it went out."""
SUSPECTS_LIMIT = 1024
"""Most digests that are remembered in memory, and most notes that are left in the folder."""


class Suspects:
    """Remembers them for a minute."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._digests: TTLCache[tuple[str, Digest], bool] = TTLCache(SUSPECTS_LIMIT, SUSPECT_SECONDS)

    async def add(self, registry: str, digest: Digest) -> None:
        """Wrong bytes of the digest went out to a client that named this registry."""
        self._digests[registry, digest] = True
        if self._folder is not None:
            with contextlib.suppress(StoreError):  # a disk that hangs
                await LOOKUPS.in_time(functools.partial(_note, self._folder, _name(registry, digest)))

    async def refuse_tail(self, registry: str, digest: Digest, wanted: ByteRange | None) -> None:
        """Refuse a range that begins later: joined to its bad beginning a good tail is of no use to the client."""
        if wanted is None or wanted.first == 0:
            return
        suspect = (registry, digest) in self._digests
        if not suspect and self._folder is not None:
            with contextlib.suppress(StoreError):  # a disk that hangs: what this process knows is all that is known
                suspect = await LOOKUPS.in_time(functools.partial(_is_young, self._folder / _name(registry, digest)))
        if suspect:
            reason = f"wrong bytes of {digest} went out: it is served from its beginning only, for a minute"
            raise UpstreamUnavailable(reason, retry_after=SUSPECT_SECONDS)


def _note(folder: Path, name: str) -> None:
    """Leave a note for other processes; on a disk in trouble there is none, and none of theirs either."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        notes = sorted(folder.iterdir(), key=lambda note: note.stat().st_mtime)
        surplus = len(notes) - SUSPECTS_LIMIT
        for number, note in enumerate(notes):
            if number < surplus or not _is_young(note):
                note.unlink(missing_ok=True)
        (folder / name).touch(mode=FILE_MODE)


def _is_young(note: Path) -> bool:
    try:
        return abs(time.time() - note.stat().st_mtime) < SUSPECT_SECONDS
    except OSError:
        return False


def _name(registry: str, digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}-{hashlib.sha256(registry.encode()).hexdigest()[:16]}"
