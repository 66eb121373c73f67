"""The paths of the store's files."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from proxy.oci.descriptor import MANIFEST_LIMIT, Contents, parse_manifest
from proxy.oci.errors import DigestInvalid
from proxy.oci.reference import Digest
from proxy.store.files import FILE_MODE, children, read_field, read_small

ALGORITHMS = ("sha256", "sha512")
PREFIXES = tuple(f"{number:02x}" for number in range(256))
"""The names of the directories that divide the blobs and the repositories."""
KEY_LIMIT = 64 * 1024


class LinkKind(StrEnum):
    """Whether a repository holds a digest as a blob or as a manifest; one does not imply the other."""

    BLOB = "blob"
    MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Link:
    """A digest that a repository holds, and its kind."""

    digest: Digest
    kind: LinkKind


def links_of(manifest: Digest, contents: Contents, limit: int) -> tuple[Link, ...]:
    """The links that a manifest gives its repository; only its own if it names more than `limit` digests."""
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
        """A committed blob; the directories are divided by prefix, so that none has too many entries."""
        return self.root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex

    def part(self, digest: Digest, domain: str = "") -> Path:
        """A blob that is being written; each trust domain has a part of its own (`domain_name`)."""
        return self.ingest / f"{digest.algorithm}-{digest.hex}{domain}.part"

    def lock(self, digest: Digest, domain: str = "") -> Path:
        """The lock file; the holder of its lock may write the part."""
        return self.ingest / f"{digest.algorithm}-{digest.hex}{domain}.lock"

    def provenance(self, digest: Digest) -> Path:
        """The deliveries of a committed blob."""
        return self.root / "provenance" / digest.algorithm / digest.hex[:2] / digest.hex

    def repository(self, key: str) -> Path:
        """The directory of a repository, named by a hash: no repository name can escape from the store."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.repositories / name[:2] / name

    @property
    def ingest(self) -> Path:
        """The directory of the part files and their locks."""
        return self.root / "ingest"

    @property
    def repositories(self) -> Path:
        """The directory of the tags and manifest markers of all repositories."""
        return self.root / "repositories"

    @property
    def pins(self) -> Path:
        """The directory of pins (`cache pin`)."""
        return self.root / "pins"

    @property
    def index(self) -> Path:
        """The index of sizes, times of use and links; it can be rebuilt from the files."""
        return self.root / "index.sqlite"

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories that always exist, parents first."""
        blobs = self.root / "blobs"
        return (blobs, *(blobs / algorithm for algorithm in ALGORITHMS), self.ingest, self.repositories)

    def announce_change(self) -> None:
        """Make running processes drop their cached tags and manifests; raises OSError."""
        (self.root / "changed").touch(mode=FILE_MODE)

    def last_change(self) -> float:
        """When a command (`cache rm`) last changed the store, in seconds since the epoch; 0 for never."""
        try:
            return (self.root / "changed").stat().st_mtime
        except OSError:
            return 0.0

    def blobs(self) -> Iterator[Digest]:
        """Every committed blob; skips symbolic links and names that are not digests. Raises OSError."""
        for algorithm in ALGORITHMS:
            for prefix in PREFIXES:
                yield from self.blobs_in(algorithm, prefix)

    def blobs_in(self, algorithm: str, prefix: str) -> list[Digest]:
        """The committed blobs of one directory; raises OSError."""
        return [digest for digest, _ in self.entries_in(algorithm, prefix)]

    def entries_in(self, algorithm: str, prefix: str) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
        """The committed blobs of one directory with their directory entries; raises OSError."""
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
        """The manifests that have a marker in a repository's directory; raises OSError."""
        digests = [digest_of(entry.name.replace("-", ":", 1)) for entry in children(repository / "manifests")]
        return [digest for digest in digests if digest is not None]

    def contents(self, manifest: Digest) -> Contents:
        """The blobs and manifests that a stored manifest names; raises OSError."""
        return parse_manifest(read_small(self.blob(manifest), MANIFEST_LIMIT) or b"").contents

    def named_by(self, manifest: Digest) -> tuple[Digest, ...]:
        """The digests of all blobs and manifests that a stored manifest names; raises OSError."""
        contents = self.contents(manifest)
        return tuple(held.digest for held in (*contents.blobs, *contents.manifests))


def repository_key_of(directory: Path) -> str | None:
    """The key of the repository that a directory belongs to; None if its `key.json` is invalid. Raises OSError."""
    return read_field(directory / "key.json", "key", KEY_LIMIT)


def mark_of(directory: Path, manifest: Digest) -> Path:
    """The file that marks that the repository of a directory holds a manifest."""
    return directory / "manifests" / manifest.text.replace(":", "-")


def digest_of(text: str) -> Digest | None:
    """The digest in a text; None if it is not a digest."""
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None
