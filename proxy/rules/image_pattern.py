"""Patterns of images, as `cache.keep` and the commands of the cache take them."""

from dataclasses import dataclass
from typing import Self

from proxy.oci.errors import RegistryError
from proxy.oci.reference import Digest, ImageReference
from proxy.rules.patterns import covers_repository

_PATTERN_LIMIT = 512


@dataclass(frozen=True, slots=True)
class ImagePattern:
    """`registry/repository[:tag]` or `registry/repository@digest`; `*` is part of a segment, `**` any number of them.

    Without tag and digest it matches every tag of its repositories.
    """

    repositories: str
    """Pattern of `registry/repository`."""
    tags: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern; raises ValueError. A name without wildcards is completed as docker does (`nginx:1`)."""
        if not text or len(text) > _PATTERN_LIMIT or not text.isprintable() or " " in text:
            raise ValueError(f"{text[:60]!r} is not a pattern of images such as docker.io/library/nginx:1.27")
        if "*" not in text:
            return cls._of_name(text)
        name, at, digest = text.partition("@")
        head, colon, tag = name.rpartition(":")
        is_tag = bool(colon) and "/" not in tag
        repositories = head if is_tag else name
        first, slash, _ = repositories.partition("/")
        if first != "**" and not (slash and ("." in first or ":" in first or first == "localhost" or "*" in first)):
            raise ValueError(f"{text!r} names no registry: write docker.io/{text}, or **/{text} for every registry")
        try:
            return cls(repositories, tag if is_tag else None, Digest.parse(digest) if at else None)
        except RegistryError as error:
            raise ValueError(f"{text!r}: {error.reason}") from None

    @classmethod
    def _of_name(cls, text: str) -> Self:
        try:
            image = ImageReference.parse(text)
        except RegistryError as error:
            raise ValueError(f"{text!r}: {error.reason}") from None
        repository = f"{image.registry}/{image.repository}"
        if isinstance(image.reference, Digest):
            return cls(repository, None, image.reference)
        has_tag = ":" in text.rpartition("/")[2]
        return cls(repository, image.reference.name if has_tag else None)

    def covers(self, name: str) -> bool:
        """Whether it is for images of the repository with this name (`registry/repository`)."""
        return covers_repository(self.repositories, name)

    def matches(self, name: str, tag: str | None, digest: Digest) -> bool:
        """Whether it is for an image, by a name of its repository (`registry/repository`), its tag and its digest."""
        if self.digest is not None and self.digest != digest:
            return False
        if self.tags is not None and (tag is None or not covers_repository(self.tags, tag)):
            return False
        return self.covers(name)

    def __str__(self) -> str:
        """The pattern as it is written."""
        tag = f":{self.tags}" if self.tags is not None else ""
        return f"{self.repositories}{tag}{f'@{self.digest}' if self.digest is not None else ''}"
