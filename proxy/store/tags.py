"""Tags with their age, and which repository holds which digest: small files, and the index for quick answers."""

import functools
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from proxy.oci.descriptor import Contents, Descriptor
from proxy.oci.errors import NameInvalid, RegistryError
from proxy.oci.reference import Digest, Tag
from proxy.routing.table import RepositoryKey
from proxy.store.disk import LOOKUPS, to_the_end, translated
from proxy.store.files import FILE_MODE, make_folder, read_small, replace
from proxy.store.index import Index
from proxy.store.layout import Layout, Link, LinkKind, links_of, repository_key_of

TAG_FILE_LIMIT = 4096
REMEMBERED_TAGS = 20_000
REMEMBERED_LINKS = 100_000
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

    async def find(self, key: RepositoryKey, tag: Tag, *, anew: bool = False) -> TagEntry | None:
        """What is known of a tag; with `anew` also by other processes since it was remembered. Raises StoreError."""
        known = self._tags.get((key, tag))
        if known is not None and not anew:
            return known
        for _ in range(READS):
            changes = self._changes
            with translated("cannot read a tag from the cache"):
                read = await LOOKUPS.in_time(functools.partial(read_tag, self._tag_file(key, tag)))
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
        """Note that a manifest was used now: of what was used longest ago is evicted first."""
        self._index.touch(manifest)

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

    def _mark(self, key: RepositoryKey, manifest: Digest) -> None:
        folder = self._folder(key, "manifests")
        (folder / str(manifest).replace(":", "-")).touch(mode=FILE_MODE)

    def _write(self, key: RepositoryKey, tag: Tag, entry: TagEntry) -> None:
        found = entry.descriptor
        fields = {"digest": str(found.digest), "mediaType": found.media_type, "size": found.size}
        refused = {"refused": True} if entry.refused else {}
        content = json.dumps({**fields, "confirmed": entry.confirmed, **refused}).encode()
        replace(self._folder(key, "tags") / tag.name, content)

    def _folder(self, key: RepositoryKey, name: str) -> Path:
        repository = self._layout.repository(key.text)
        if not (repository / "key.json").exists():
            for folder in (self._layout.repositories, repository.parent, repository):
                make_folder(folder)
            replace(repository / "key.json", json.dumps({"key": key.text}).encode(), durable=True)
        make_folder(repository / name)
        return repository / name


def read_tag(path: Path) -> TagEntry | None:
    """A tag file; one that cannot be read is no tag file, and the upstream is asked again. Raises OSError."""
    try:
        fields = json.loads(read_small(path, TAG_FILE_LIMIT) or b"")
        descriptor = Descriptor(str(fields["mediaType"]), Digest.parse(str(fields["digest"])), int(fields["size"]))
        confirmed, refused = float(fields["confirmed"]), fields.get("refused") is True
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, RegistryError):
        return None
    # A time to come, of a clock that was wrong, would be fresh until then.
    is_sound = math.isfinite(confirmed) and confirmed <= time.time() + CLOCK_SECONDS and descriptor.size >= 0
    return TagEntry(descriptor, confirmed, refused) if is_sound else None


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag that is known, and where."""

    key: RepositoryKey
    tag: Tag
    entry: TagEntry

    def __str__(self) -> str:
        """The image as its upstream knows it."""
        return f"{self.key.registry}/{self.key.repositories[0]}:{self.tag}"


def stored_tags(layout: Layout) -> Iterator[StoredTag]:
    """Every tag of every repository; what cannot be read is passed over."""
    for folder, key in _repositories(layout):
        for file in sorted(_children(folder / "tags")):
            try:
                tag = Tag.parse(file.name)
            except NameInvalid:
                continue
            entry = read_tag(file)
            if entry is not None:
                yield StoredTag(key, tag, entry)


def content_of(layout: Layout, manifest: Digest) -> Iterator[Digest]:
    """A manifest and all that it names, down through the manifests of an index, as far as they are stored."""
    seen: set[Digest] = set()
    waiting = [manifest]
    while waiting:
        digest = waiting.pop()
        if digest in seen:
            continue
        seen.add(digest)
        yield digest
        waiting += layout.named_by(digest)


def in_use(layout: Layout, leaving: Iterable[Digest]) -> set[Digest]:
    """The digests that the known manifests name, those that are leaving excepted."""
    gone = set(leaving)
    used: set[Digest] = set()
    for folder, _ in _repositories(layout):
        for digest in layout.marked(folder):
            if digest not in gone:
                used |= {digest, *layout.named_by(digest)}
    return used


def forget_manifest(layout: Layout, key: RepositoryKey, digest: Digest) -> None:
    """Take the mark away that a repository holds a manifest; raises OSError."""
    marker = layout.repository(key.text) / "manifests" / digest.text.replace(":", "-")
    marker.unlink(missing_ok=True)


def _repositories(layout: Layout) -> Iterator[tuple[Path, RepositoryKey]]:
    for folder in sorted(layout.repositories.glob("*/*")):
        text = repository_key_of(folder)
        try:
            registry, *repositories = json.loads(text or "")
        except (ValueError, TypeError):
            continue
        yield folder, RepositoryKey(str(registry), tuple(map(str, repositories)))


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
