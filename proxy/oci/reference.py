"""Repositories, tags and digests, as the distribution specification defines them."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from proxy.oci.errors import DigestInvalid, NameInvalid

if TYPE_CHECKING:
    from hashlib import _Hash

NAME_LIMIT = 255
"""Longest repository name in characters (containerd and docker refuse longer ones)."""
DEFAULT_TAG = "latest"
DOCKER_HUB = "docker.io"
HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io"})
"""Other names of Docker Hub in image names; containerd also replaces the first with docker.io."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")


@dataclass(frozen=True, slots=True)
class Digest:
    """A content digest with a supported algorithm: sha256 or sha512."""

    algorithm: str
    hex: str
    text: str = field(init=False, repr=False, compare=False)
    """`algorithm:hex`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.algorithm}:{self.hex}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `sha256:<64 hex>` or `sha512:<128 hex>`; raises DigestInvalid."""
        if not _DIGEST.fullmatch(text):
            raise DigestInvalid("the digest is not sha256:<64 hex digits> or sha512:<128 hex digits>, in lower case")
        algorithm, _, value = text.partition(":")
        return cls(algorithm, value)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """The digest of some bytes."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def hasher(self) -> "_Hash":
        """A new hash of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        """`algorithm:hex`."""
        return self.text


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag."""

    name: str
    text: str = field(init=False, repr=False, compare=False)
    """Its name, as in a URL."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.name)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a tag; raises NameInvalid."""
        if not _TAG.fullmatch(text):
            raise NameInvalid("the tag is not 1 to 128 letters, digits, dots, dashes and underscores")
        return cls(text)

    def __str__(self) -> str:
        """The tag's name."""
        return self.name


def parse_tag_or_digest(text: str) -> Tag | Digest:
    """Parse what follows `/manifests/` in a path; raises NameInvalid or DigestInvalid."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)


def check_repository(name: str) -> str:
    """Return the name if it is a valid repository name; raises NameInvalid."""
    if len(name) > NAME_LIMIT:
        raise NameInvalid(f"the repository name is longer than {NAME_LIMIT} characters")
    if not _REPOSITORY.fullmatch(name):
        raise NameInvalid("invalid repository name: use lower-case letters, digits, '.', '_', '-' and '/'")
    return name


def canonical_repository(registry: str, name: str) -> str:
    """The name as containerd would request it: Docker Hub's official images are under `library/`."""
    return f"library/{name}" if registry == DOCKER_HUB and "/" not in name else name


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image as people write it: `[registry/]repository[:tag][@digest]`."""

    registry: str
    repository: str
    reference: Tag | Digest

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an image name and fill in omitted parts, as docker does; raises NameInvalid or DigestInvalid.

        If it has both a tag and a digest, the tag is ignored, as in containerd.
        """
        name, _, digest = text.partition("@")
        name, tag = _split_tag(name)
        reference = Digest.parse(digest) if "@" in text else Tag.parse(DEFAULT_TAG if tag is None else tag)
        registry, repository = split_registry(name)
        registry = DOCKER_HUB if registry in HUB_NAMES else registry or DOCKER_HUB
        repository = canonical_repository(registry, repository)
        return cls(registry, check_repository(repository), reference)

    def __str__(self) -> str:
        """The complete name, with registry and tag or digest."""
        separator = "@" if isinstance(self.reference, Digest) else ":"
        return f"{self.registry}/{self.repository}{separator}{self.reference}"


def split_registry(name: str) -> tuple[str | None, str]:
    """Split off the registry, if there is one: a first part with a dot or a colon, or `localhost`."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return None, name


def _split_tag(name: str) -> tuple[str, str | None]:
    head, colon, tail = name.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (name, None)
