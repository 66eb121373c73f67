"""Tags and when each was confirmed, and which repository holds which digest: in small files and in the index."""

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from proxy.oci.descriptor import Contents, Descriptor
from proxy.oci.errors import RegistryError
from proxy.oci.reference import Digest, Tag
from proxy.routing.table import RepositoryKey
from proxy.store.disk import LOOKUPS, store_errors, to_the_end
from proxy.store.files import FILE_MODE, children, make_directory, read_small, replace
from proxy.store.index import Index
from proxy.store.layout import Layout, Link, LinkKind, links_of, mark_of

TAG_FILE_LIMIT = 4096
REMEMBERED_TAGS = 20_000
REMEMBERED_LINKS = 100_000
REMEMBERED_NAMES = 20_000
NAMES_LIMIT = 16
"""Names that are noted of one repository."""
READS = 3
"""Attempts to read a tag's file while other tasks write tags."""
CLOCK_SECONDS = 5.0
"""How far in the future the time of confirmation of a tag may be: a clock may be set back a little."""


@dataclass(frozen=True, slots=True)
class TagEntry:
    """What a tag pointed to when the upstream last confirmed it (`confirmed`, in seconds since the epoch)."""

    descriptor: Descriptor
    confirmed: float
    refused: bool = False
    """Whether the upstream has refused the proxy's own credentials since then: if so, it is not served stale."""

    @property
    def age(self) -> float:
        """Seconds since the upstream confirmed the tag."""
        return max(time.time() - self.confirmed, 0.0)

    def is_young(self, limit: float) -> bool:
        """Whether it may be served without revalidation; False for a time in the future, which is a wrong clock."""
        return 0 <= time.time() - self.confirmed < limit


def read_tag(path: Path, *, is_timed: bool = True) -> TagEntry | None:
    """The entry of a tag file; None if it is missing or invalid, so that the tag is fetched again. Raises OSError.

    With `is_timed`, a time in the future, from a wrong clock, is invalid: the tag would stay fresh until then.
    """
    try:
        fields = json.loads(read_small(path, TAG_FILE_LIMIT) or b"")
        descriptor = Descriptor(str(fields["mediaType"]), Digest.parse(str(fields["digest"])), int(fields["size"]))
        confirmed, refused = float(fields["confirmed"]), fields.get("refused") is True
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, RegistryError):
        return None
    is_early = is_timed and confirmed > time.time() + CLOCK_SECONDS
    is_sound = math.isfinite(confirmed) and not is_early and descriptor.size >= 0
    return TagEntry(descriptor, confirmed, refused) if is_sound else None


class Tags:
    """Tags and links of all repositories."""

    def __init__(self, layout: Layout, index: Index, read: Callable[[Path], TagEntry | None] = read_tag) -> None:
        self._layout = layout
        self._index = index
        self._read = read
        self._tags: LRUCache[tuple[RepositoryKey, Tag], TagEntry] = LRUCache(REMEMBERED_TAGS)
        self._unwritten: LRUCache[tuple[RepositoryKey, Tag], bool] = LRUCache(REMEMBERED_TAGS)
        self._changes = 0
        self._links: LRUCache[tuple[RepositoryKey, Link], bool] = LRUCache(REMEMBERED_LINKS)
        self._names: LRUCache[tuple[RepositoryKey, str], bool] = LRUCache(REMEMBERED_NAMES)

    async def find(self, key: RepositoryKey, tag: Tag, *, anew: bool = False) -> TagEntry | None:
        """The entry of a tag; with `anew` read from its file, which other processes write too. Raises StoreError."""
        known = self._tags.get((key, tag))
        if known is not None and not anew:
            return known
        for _ in range(READS):
            changes = self._changes
            with store_errors("cannot read a tag from the cache"):
                read = await LOOKUPS.in_time(functools.partial(self._read, self._tag_file(key, tag)))
            if changes == self._changes:  # no tag was written or removed while the file was read
                self._learn(key, tag, read)
                break
        return self._tags.get((key, tag))

    def _learn(self, key: RepositoryKey, tag: Tag, read: TagEntry | None) -> None:
        """Cache the entry of a file, unless this process has a newer entry or one that it could not write."""
        known = self._tags.get((key, tag))
        if known is not None:
            is_newer = read is not None and known.confirmed > read.confirmed
            if is_newer or (read is None and (key, tag) in self._unwritten):
                return
        if read is None:
            self._tags.pop((key, tag), None)
        else:
            self._tags[key, tag] = read

    def remembered(self, key: RepositoryKey, tag: Tag) -> TagEntry | None:
        """The cached entry of a tag; does not read its file."""
        return self._tags.get((key, tag))

    def knows_link(self, key: RepositoryKey, link: Link) -> bool:
        """Whether this link of a repository is cached; does not read the index."""
        return (key, link) in self._links

    async def set(self, key: RepositoryKey, tag: Tag, entry: TagEntry) -> None:
        """Store the entry of a tag; raises StoreError."""
        self._changes += 1
        self._tags[key, tag] = entry
        self._unwritten[key, tag] = True
        with store_errors("cannot write a tag to the cache"):
            await to_the_end(functools.partial(self._write, key, tag, entry))
        self._unwritten.pop((key, tag), None)

    async def remove(self, key: RepositoryKey, tag: Tag) -> None:
        """Remove a tag; raises StoreError."""
        self._changes += 1
        self._tags.pop((key, tag), None)
        self._unwritten.pop((key, tag), None)
        with store_errors("cannot remove a tag from the cache"):
            await to_the_end(functools.partial(self._tag_file(key, tag).unlink, missing_ok=True))

    def forget(self) -> None:
        """Drop the cached tags and links: another process has changed the files."""
        self._tags.clear()
        self._links.clear()
        self._names.clear()

    async def link_blob(self, key: RepositoryKey, digest: Digest) -> None:
        """Store that a repository holds a blob; raises StoreError."""
        await self._link(key, [Link(digest, LinkKind.BLOB)])

    async def link_manifest(self, key: RepositoryKey, manifest: Digest, contents: Contents) -> None:
        """Store that a repository holds a manifest and all that it names; raises StoreError."""
        with store_errors("cannot write a link to the cache"):
            await to_the_end(functools.partial(self._mark, key, manifest))
        links = links_of(manifest, contents, self._index.bounds.manifest_digests)
        await self._link(key, links)
        await self._index.add_manifest(manifest, links)

    def touch(self, manifest: Digest) -> None:
        """Note that a manifest was used now: what was used longest ago is evicted first."""
        self._index.touch(manifest)

    def is_new_name(self, key: RepositoryKey, name: str) -> bool:
        """Whether this process sees the name, by which nodes request the repository, for the first time."""
        if (key, name) in self._names:
            return False
        self._names[key, name] = True
        return True

    async def note_name(self, key: RepositoryKey, name: str) -> None:
        """Note a name by which nodes request the repository, as `registry/repository`; raises StoreError."""
        with store_errors("cannot write a name to the cache"):
            await to_the_end(functools.partial(self._write_name, key, name))

    async def _link(self, key: RepositoryKey, links: Iterable[Link]) -> None:
        new = [link for link in links if (key, link) not in self._links]
        if new:
            await self._index.link(key.text, new)
            self._links.update(dict.fromkeys(((key, link) for link in new), True))

    async def is_linked(self, key: RepositoryKey, link: Link) -> bool:
        """Whether the store has this link of a repository; raises StoreError."""
        if (key, link) in self._links:
            return True
        linked = await self._index.is_linked(key.text, link)
        if linked:
            self._links[key, link] = True
        return linked

    def _tag_file(self, key: RepositoryKey, tag: Tag) -> Path:
        return self._layout.repository(key.text) / "tags" / tag.name

    def _mark(self, key: RepositoryKey, manifest: Digest) -> None:
        mark_of(self._directory(key, "manifests").parent, manifest).touch(mode=FILE_MODE)

    def _write(self, key: RepositoryKey, tag: Tag, entry: TagEntry) -> None:
        target = entry.descriptor
        fields = {"digest": str(target.digest), "mediaType": target.media_type, "size": target.size}
        refused = {"refused": True} if entry.refused else {}
        content = json.dumps({**fields, "confirmed": entry.confirmed, **refused}).encode()
        replace(self._directory(key, "tags") / tag.name, content)

    def _write_name(self, key: RepositoryKey, name: str) -> None:
        path = self._directory(key, "names") / hashlib.sha256(name.encode()).hexdigest()
        if not path.exists() and len(children(path.parent)) < NAMES_LIMIT:
            replace(path, json.dumps({"name": name}).encode())

    def _directory(self, key: RepositoryKey, name: str) -> Path:
        repository = self._layout.repository(key.text)
        if not (repository / "key.json").exists():
            for directory in (self._layout.repositories, repository.parent, repository):
                make_directory(directory)
            replace(repository / "key.json", json.dumps({"key": key.text}).encode(), durable=True)
        make_directory(repository / name)
        return repository / name
