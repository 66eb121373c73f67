"""What is in a store, read from its files: tags with what they point to, and what is in use."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.oci.errors import NameInvalid
from proxy.oci.reference import Digest, Tag
from proxy.store.layout import Layout, repository_key_of
from proxy.store.tags import RepositoryKey, TagEntry, read_tag


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
    marker = layout.repository(str(key)) / "manifests" / str(digest).replace(":", "-")
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
