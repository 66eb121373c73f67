"""Where everything lies below the store's folder."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from proxy.oci.descriptor import MANIFEST_LIMIT, Contents, parse_manifest
from proxy.oci.errors import DigestInvalid
from proxy.oci.reference import Digest
from proxy.store.files import FILE_MODE, children, read_small

ALGORITHMS = ("sha256", "sha512")
PREFIXES = tuple(f"{number:02x}" for number in range(256))
"""The names of the folders between."""
KEY_LIMIT = 64 * 1024


class LinkKind(StrEnum):
    """As what a repository holds a digest: what is known of its blobs says nothing of its manifests."""

    BLOB = "blob"
    MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Link:
    """A digest that a repository holds, and as what."""

    digest: Digest
    kind: LinkKind


def links_of(manifest: Digest, contents: Contents, limit: int) -> tuple[Link, ...]:
    """What a repository holds that holds this manifest; only itself where it holds more than `limit` digests."""
    if len(contents.blobs) + len(contents.manifests) > limit:
        contents = Contents()
    return (
        *(Link(digest, LinkKind.MANIFEST) for digest in (manifest, *(held.digest for held in contents.manifests))),
        *(Link(held.digest, LinkKind.BLOB) for held in contents.blobs),
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a store."""

    root: Path

    def blob(self, digest: Digest) -> Path:
        """A committed blob; two levels of folders, so that none holds too many."""
        return self.root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex

    def part(self, digest: Digest, domain: str = "") -> Path:
        """A blob that arrives; each trust domain has a part of its own (`domain_name`)."""
        return self.ingest / f"{digest.algorithm}-{digest.hex}{domain}.part"

    def lock(self, digest: Digest, domain: str = "") -> Path:
        """The file whose lock is the right to write the part."""
        return self.ingest / f"{digest.algorithm}-{digest.hex}{domain}.lock"

    def provenance(self, digest: Digest) -> Path:
        """The deliveries of a committed blob."""
        return self.root / "provenance" / digest.algorithm / digest.hex[:2] / digest.hex

    def repository(self, key: str) -> Path:
        """The folder of a repository; its name tells nothing, so no name can lead out of it."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.repositories / name[:2] / name

    @property
    def ingest(self) -> Path:
        """The folder of all that arrives."""
        return self.root / "ingest"

    @property
    def repositories(self) -> Path:
        """The folder of tags and of the marks of manifests."""
        return self.root / "repositories"

    @property
    def pins(self) -> Path:
        """The directory of pins (`cache pin`)."""
        return self.root / "pins"

    @property
    def index(self) -> Path:
        """The index of sizes, ages and links; it can be rebuilt from the files."""
        return self.root / "index.sqlite"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that are always there, outer ones first."""
        blobs = self.root / "blobs"
        return (blobs, *(blobs / algorithm for algorithm in ALGORITHMS), self.ingest, self.repositories)

    def announce_change(self) -> None:
        """Have running processes forget what they remember of tags and manifests; raises OSError."""
        (self.root / "changed").touch(mode=FILE_MODE)

    def last_change(self) -> float:
        """When a command last changed the store beside the running processes; 0 for never."""
        try:
            return (self.root / "changed").stat().st_mtime
        except OSError:
            return 0.0

    def blobs(self) -> Iterator[Digest]:
        """Every committed blob; links and what has no digest for a name are passed over. Raises OSError."""
        for algorithm in ALGORITHMS:
            for prefix in PREFIXES:
                yield from self.blobs_in(algorithm, prefix)

    def blobs_in(self, algorithm: str, prefix: str) -> list[Digest]:
        """The committed blobs of one folder; raises OSError."""
        return [digest for digest, _ in self.entries_in(algorithm, prefix)]

    def entries_in(self, algorithm: str, prefix: str) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
        """The committed blobs of one folder with their entries in it; raises OSError."""
        for entry in children(self.root / "blobs" / algorithm / prefix):
            if entry.name.startswith(prefix) and entry.is_file(follow_symlinks=False):
                digest = digest_of(f"{algorithm}:{entry.name}")
                if digest is not None:
                    yield digest, entry

    def marked_manifests(self, limit: int) -> Iterator[tuple[str, Digest, tuple[Link, ...]]]:
        """For the index: each repository's key, a manifest that it holds, and what it holds by that.

        Read from the manifests themselves; those with more than `limit` digests name nothing. Raises OSError.
        """
        for prefix in PREFIXES:
            for entry in children(self.repositories / prefix):
                directory = Path(entry.path)
                key = repository_key_of(directory)
                for manifest in self.marked(directory) if key is not None else ():
                    yield str(key), manifest, links_of(manifest, self.contents(manifest), limit)

    def marked(self, repository: Path) -> list[Digest]:
        """The manifests that a repository's folder has a mark of; raises OSError."""
        found = [digest_of(entry.name.replace("-", ":", 1)) for entry in children(repository / "manifests")]
        return [digest for digest in found if digest is not None]

    def contents(self, manifest: Digest) -> Contents:
        """What a stored manifest holds; raises OSError."""
        return parse_manifest(read_small(self.blob(manifest), MANIFEST_LIMIT) or b"").contents

    def named_by(self, manifest: Digest) -> tuple[Digest, ...]:
        """The digests of all that a stored manifest holds; raises OSError."""
        contents = self.contents(manifest)
        return tuple(held.digest for held in (*contents.blobs, *contents.manifests))


def repository_key_of(folder: Path) -> str | None:
    """The key of the repository that a folder belongs to; None where that cannot be read. Raises OSError."""
    try:
        key = json.loads(read_small(folder / "key.json", KEY_LIMIT) or b"")["key"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return key if isinstance(key, str) else None


def digest_of(text: str) -> Digest | None:
    """The digest that a name stands for, if it stands for one."""
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None
