"""Tags with their age, and which repository holds which digest: small files, and the index for quick answers."""

import functools
import hashlib
import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from proxy.oci.descriptor import Contents, Descriptor
from proxy.oci.errors import RegistryError
from proxy.oci.reference import Digest, Tag
from proxy.routing.table import RepositoryKey
from proxy.store.disk import LOOKUPS, to_the_end, translated
from proxy.store.files import FILE_MODE, children, make_folder, read_small, replace
from proxy.store.index import Index
from proxy.store.layout import Layout, Link, LinkKind, links_of

TAG_FILE_LIMIT = 4096
REMEMBERED_TAGS = 20_000
REMEMBERED_LINKS = 100_000
REMEMBERED_NAMES = 20_000
NAMES_LIMIT = 16
"""Names that are noted of one repository."""
READS = 3
"""Times that a tag's file is read while others note something at the same time."""
CLOCK_SECONDS = 5.0
"""How far in the future a tag may have been confirmed, by a clock that was set back a little."""


@dataclass(frozen=True, slots=True)
class TagEntry:
    """What a tag pointed to when the upstream was last asked, in seconds since the epoch."""

    descriptor: Descriptor
    confirmed: float
    refused: bool = False
    """Whether the upstream has refused the proxy's own credentials since: then it is not served stale."""

    @property
    def age(self) -> float:
        """Seconds since the upstream last said where the tag points to."""
        return max(time.time() - self.confirmed, 0.0)

    def is_young(self, limit: float) -> bool:
        """Whether it holds without a question; one confirmed in the future shows a clock that was put back."""
        return 0 <= time.time() - self.confirmed < limit


class Tags:
    """Tags and links of all repositories."""

    def __init__(self, layout: Layout, index: Index) -> None:
        self._layout = layout
        self._index = index
        self._tags: LRUCache[tuple[RepositoryKey, Tag], TagEntry] = LRUCache(REMEMBERED_TAGS)
        self._unwritten: LRUCache[tuple[RepositoryKey, Tag], bool] = LRUCache(REMEMBERED_TAGS)
        self._changes = 0
        self._links: LRUCache[tuple[RepositoryKey, Link], bool] = LRUCache(REMEMBERED_LINKS)
        self._names: LRUCache[tuple[RepositoryKey, str], bool] = LRUCache(REMEMBERED_NAMES)

    async def find(self, key: RepositoryKey, tag: Tag, *, anew: bool = False) -> TagEntry | None:
        """What is known of a tag; with `anew` also by other processes since it was remembered. Raises StoreError."""
        known = self._tags.get((key, tag))
        if known is not None and not anew:
            return known
        for _ in range(READS):
            changes = self._changes
            with translated("cannot read a tag from the cache"):
                read = await LOOKUPS.in_time(functools.partial(self._read_tag, key, tag))
            if changes == self._changes:  # nothing was noted while the file was read
                self._learn(key, tag, read)
                break
        return self._tags.get((key, tag))

    def _learn(self, key: RepositoryKey, tag: Tag, read: TagEntry | None) -> None:
        """Remember what a file says, unless this process knows better: of a later answer, or one it could not write."""
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
        """What is known of a tag without a look at its file."""
        return self._tags.get((key, tag))

    def knows_link(self, key: RepositoryKey, link: Link) -> bool:
        """Whether a repository is known to hold a digest as what the link says, without a look at the index."""
        return (key, link) in self._links

    async def set(self, key: RepositoryKey, tag: Tag, entry: TagEntry) -> None:
        """Note what a tag points to; raises StoreError."""
        self._changes += 1
        self._tags[key, tag] = entry
        self._unwritten[key, tag] = True
        with translated("cannot write a tag to the cache"):
            await to_the_end(functools.partial(self._write, key, tag, entry))
        self._unwritten.pop((key, tag), None)

    async def remove(self, key: RepositoryKey, tag: Tag) -> None:
        """Forget a tag; raises StoreError."""
        self._changes += 1
        self._tags.pop((key, tag), None)
        self._unwritten.pop((key, tag), None)
        with translated("cannot remove a tag from the cache"):
            await to_the_end(functools.partial(self._tag_file(key, tag).unlink, missing_ok=True))

    def forget(self) -> None:
        """Drop what is remembered of the files: somebody else has changed them."""
        self._tags.clear()
        self._links.clear()
        self._names.clear()

    async def link_blob(self, key: RepositoryKey, digest: Digest) -> None:
        """Note that a repository holds a blob; raises StoreError."""
        await self._link(key, [Link(digest, LinkKind.BLOB)])

    async def link_manifest(self, key: RepositoryKey, manifest: Digest, contents: Contents) -> None:
        """Note that a repository holds a manifest, and what that holds; raises StoreError."""
        with translated("cannot write a link to the cache"):
            await to_the_end(functools.partial(self._mark, key, manifest))
        links = links_of(manifest, contents, self._index.bounds.manifest_digests)
        await self._link(key, links)
        await self._index.add_manifest(manifest, links)

    def touch(self, manifest: Digest) -> None:
        """Note that a manifest was used now: what was used longest ago is evicted first."""
        self._index.touch(manifest)

    def is_new_name(self, key: RepositoryKey, name: str) -> bool:
        """Whether this process sees the name, by which nodes request the repository, for the first time."""
        is_new = (key, name) not in self._names
        self._names[key, name] = True
        return is_new

    async def note_name(self, key: RepositoryKey, name: str) -> None:
        """Note a name by which nodes request the repository, as `registry/repository`; raises StoreError."""
        with translated("cannot write a name to the cache"):
            await to_the_end(functools.partial(self._write_name, key, name))

    async def _link(self, key: RepositoryKey, links: Iterable[Link]) -> None:
        new = [link for link in links if (key, link) not in self._links]
        if new:
            await self._index.link(key.text, new)
            self._links.update(dict.fromkeys(((key, link) for link in new), True))

    async def is_linked(self, key: RepositoryKey, link: Link) -> bool:
        """Whether a repository is known to hold a digest as what the link says; raises StoreError."""
        if (key, link) in self._links:
            return True
        linked = await self._index.is_linked(key.text, link)
        if linked:
            self._links[key, link] = True
        return linked

    def _tag_file(self, key: RepositoryKey, tag: Tag) -> Path:
        return self._layout.repository(key.text) / "tags" / tag.name

    def _read_tag(self, key: RepositoryKey, tag: Tag) -> TagEntry | None:
        # A tag that never expires is served also while the clock is wrong, as on machines without a network.
        return read_tag(self._tag_file(key, tag), is_timed=self._index.bounds.tags_expire)

    def _mark(self, key: RepositoryKey, manifest: Digest) -> None:
        folder = self._folder(key, "manifests")
        (folder / str(manifest).replace(":", "-")).touch(mode=FILE_MODE)

    def _write(self, key: RepositoryKey, tag: Tag, entry: TagEntry) -> None:
        found = entry.descriptor
        fields = {"digest": str(found.digest), "mediaType": found.media_type, "size": found.size}
        refused = {"refused": True} if entry.refused else {}
        content = json.dumps({**fields, "confirmed": entry.confirmed, **refused}).encode()
        replace(self._folder(key, "tags") / tag.name, content)

    def _write_name(self, key: RepositoryKey, name: str) -> None:
        path = self._folder(key, "names") / hashlib.sha256(name.encode()).hexdigest()
        if not path.exists() and len(children(path.parent)) < NAMES_LIMIT:
            replace(path, json.dumps({"name": name}).encode())

    def _folder(self, key: RepositoryKey, name: str) -> Path:
        repository = self._layout.repository(key.text)
        if not (repository / "key.json").exists():
            for folder in (self._layout.repositories, repository.parent, repository):
                make_folder(folder)
            replace(repository / "key.json", json.dumps({"key": key.text}).encode(), durable=True)
        make_folder(repository / name)
        return repository / name


def read_tag(path: Path, *, is_timed: bool = True) -> TagEntry | None:
    """A tag file; one that cannot be read is no tag file, and the upstream is asked again. Raises OSError.

    With `is_timed` neither is one that was confirmed in the future, by a clock that was wrong: it would be fresh until
    then.
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
