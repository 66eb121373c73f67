"""What is stored, read from the files of the store: tags, the names that nodes use, and what a manifest holds.

Blocking; a store may have tens of thousands of tags.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.oci.descriptor import MANIFEST_LIMIT, parse_manifest
from proxy.oci.errors import NameInvalid
from proxy.oci.reference import Digest, Tag
from proxy.routing.table import RepositoryKey
from proxy.rules.image_pattern import ImagePattern
from proxy.store.files import children, read_field, read_small, regular_size
from proxy.store.layout import Layout, mark_of, repository_key_of
from proxy.store.platforms import Platforms, platforms_of
from proxy.store.tags import TAG_FILE_LIMIT, TagEntry, read_tag

CONTENT_LIMIT = 4 * MANIFEST_LIMIT
"""Bytes of the manifests of one image that are read: its registry can make an index of any number of large ones."""


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag that is known, where, and the names that nodes use for its repository (`registry/repository`)."""

    key: RepositoryKey
    tag: Tag
    entry: TagEntry
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The image as nodes request it; as its upstream knows it where no node's name is known."""
        return f"{self.names[0] if self.names else self.upstream_name}:{self.tag}"

    @property
    def upstream_name(self) -> str:
        """The registry, and the repository as its first endpoint knows it."""
        return _upstream_name(self.key)

    def matches_any(self, patterns: Iterable[ImagePattern]) -> bool:
        """Whether one of the patterns is for it, by any name of its repository."""
        digest = self.entry.descriptor.digest
        names = (*self.names, self.upstream_name)
        return any(pattern.matches(name, self.tag.name, digest) for pattern in patterns for name in names)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A stored tag with what is stored of its image."""

    stored: StoredTag
    size: int
    """Bytes of all that is stored of it."""
    platforms: Platforms
    used: float | None
    """When it was last used, in seconds since the epoch; None where the index does not know it."""

    @property
    def is_complete(self) -> bool:
        """Whether it can be pulled without its registry, for one platform at least."""
        return bool(self.platforms.complete)


def read_stored_tag(path: Path) -> TagEntry | None:
    """A tag file, also one that was confirmed by a clock that is ahead: what is stored does not depend on it."""
    return read_tag(path, is_timed=False)


def stored_tags(
    layout: Layout,
    patterns: Sequence[ImagePattern] | None = None,
    read: Callable[[Path], TagEntry | None] = read_stored_tag,
) -> Iterator[StoredTag]:
    """The tags that one of the patterns is for, or without patterns all; what cannot be read is passed over.

    Reads no tag of a repository that no pattern covers.
    """
    for directory, key in _repositories(layout):
        names = _names(directory)
        called = (*names, _upstream_name(key))
        if patterns is not None and not any(pattern.covers(name) for pattern in patterns for name in called):
            continue
        for file in sorted(_files(directory / "tags")):
            try:
                tag = Tag.parse(file.name)
            except NameInvalid:
                continue
            entry = read(file)
            stored = None if entry is None else StoredTag(key, tag, entry, names)
            if stored is not None and (patterns is None or stored.matches_any(patterns)):
                yield stored


def stored_manifests(layout: Layout, digests: frozenset[Digest]) -> Iterator[tuple[tuple[str, ...], Digest]]:
    """Those of the digests that a repository holds as a manifest, with or without a tag, and its names."""
    for directory, key in _repositories(layout):
        held = digests.intersection(layout.marked(directory))
        names = (*_names(directory), _upstream_name(key)) if held else ()
        yield from ((names, digest) for digest in held)


def stored_image(layout: Layout, stored: StoredTag, used: float | None) -> StoredImage:
    """What is stored of a tag's image; raises OSError."""
    digest = stored.entry.descriptor.digest
    sizes = {held: regular_size(layout.blob(held)) for held in content_of(layout, digest)}
    platforms = platforms_of(digest, lambda held: read_small(layout.blob(held), MANIFEST_LIMIT), sizes, CONTENT_LIMIT)
    return StoredImage(stored, sum(size or 0 for size in sizes.values()), platforms, used)


def content_of(layout: Layout, manifest: Digest) -> Iterator[Digest]:
    """A manifest and all that it names, down through the manifests of an index, as far as they are stored.

    Manifests beyond `CONTENT_LIMIT` are named, and what they name is not.
    """
    visited: set[Digest] = set()
    waiting, read = [manifest], 0
    while waiting:
        digest = waiting.pop()
        if digest in visited:
            continue
        visited.add(digest)
        yield digest
        body = read_small(layout.blob(digest), MANIFEST_LIMIT) or b"" if read < CONTENT_LIMIT else b""
        read += len(body)
        contents = parse_manifest(body).contents
        waiting += [held.digest for held in contents.manifests]
        blobs = {held.digest for held in contents.blobs} - visited
        visited |= blobs
        yield from blobs


def forget_manifests(layout: Layout, key: RepositoryKey, digests: Iterable[Digest]) -> set[Digest]:
    """Remove the marks that a repository holds these manifests, except those that its tags still need.

    Returns the digests that its tags need. Raises OSError.
    """
    repository = layout.repository(key.text)
    tags = (read_stored_tag(file) for file in _files(repository / "tags"))
    tagged = {tag.descriptor.digest for tag in tags if tag is not None}
    used = {held for digest in tagged for held in content_of(layout, digest)}
    for digest in set(digests) - used:
        mark_of(repository, digest).unlink(missing_ok=True)
    return used


def marked_content(layout: Layout) -> set[Digest]:
    """The manifests that any repository is marked to hold, and what they name; raises OSError."""
    manifests = {digest for directory, _ in _repositories(layout) for digest in layout.marked(directory)}
    return manifests.union(*map(layout.named_by, manifests))


def _repositories(layout: Layout) -> Iterator[tuple[Path, RepositoryKey]]:
    for directory in sorted(layout.repositories.glob("*/*")):
        text = repository_key_of(directory)
        try:
            registry, *repositories = json.loads(text or "")
        except (ValueError, TypeError):
            continue
        yield directory, RepositoryKey(str(registry), tuple(map(str, repositories)))


def _upstream_name(key: RepositoryKey) -> str:
    return f"{key.registry}/{key.repositories[0] if key.repositories else ''}"


def _names(directory: Path) -> tuple[str, ...]:
    names = (read_field(Path(entry.path), "name", TAG_FILE_LIMIT) for entry in children(directory / "names"))
    return tuple(sorted(name for name in names if name is not None))


def _files(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []
