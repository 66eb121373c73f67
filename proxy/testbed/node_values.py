"""The pull of a node: its target, its steps and its result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy


@dataclass(frozen=True, slots=True)
class NodeLogin:
    """The credential a node holds; with an empty user name the secret is an identity token."""

    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PullTarget:
    """One image and the host to pull it from."""

    endpoint: str  # base address; without a path `/v2` is added, any other path replaces it (`override_path`)
    registry: str  # the registry's name in the image name; sent as `ns` unless the endpoint is that host
    original: str  # the repository in the image name
    reference: str  # tag or digest
    rewritten: str = ""  # the repository on the wire, where the node itself rewrites; empty: the original
    platform: str = "linux/amd64"

    @property
    def root(self) -> str:
        """The address before the repository, without a slash at its end."""
        address = self.endpoint.rstrip("/")
        return address if urlsplit(address).path else f"{address}/v2"

    @property
    def host(self) -> str:
        """The host and port that the node talks to."""
        return urlsplit(self.endpoint).netloc

    @property
    def repository(self) -> str:
        """The repository as it stands in the request."""
        return self.rewritten or self.original

    @property
    def image(self) -> str:
        """The image name as a person writes it."""
        return f"{self.registry}/{self.original}{'@' if ':' in self.reference else ':'}{self.reference}"


@dataclass(frozen=True, slots=True)
class Step:
    """One request and its answer; nothing secret is kept."""

    method: str
    url: str
    scopes: tuple[str, ...]  # those of a token request, one by one
    status: int
    reason: str

    @property
    def line(self) -> str:
        """Method, path and query, as in a request line."""
        parts = urlsplit(self.url)
        return f"{self.method} {parts.path}{'?' if parts.query else ''}{parts.query}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer read to its end."""

    url: str
    method: str
    status: int
    reason: str
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def good(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the meaning of 2xx

    @property
    def complaint(self) -> str:
        """What containerd prints of an unexpected status."""
        status = f"{self.status} {self.reason}".strip()
        return f"unexpected status from {self.method} request to {self.url}: {status}"


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull that ended well; every digest was checked."""

    digest: str  # of what the reference named
    manifests: Mapping[str, bytes] = field(repr=False)  # by digest: the index, if any, and the platform's manifest
    blobs: Mapping[str, bytes] = field(repr=False)  # by digest
    steps: tuple[Step, ...]

    @property
    def received(self) -> int:
        """Bytes of all manifests and blobs."""
        return sum(map(len, self.manifests.values())) + sum(map(len, self.blobs.values()))

    @property
    def scopes(self) -> frozenset[str]:
        """Every scope that the node requested."""
        return frozenset(scope for step in self.steps for scope in step.scopes)


class PullFailed(Exception):
    """A pull that failed, with the text containerd would print and the steps up to the failure."""

    def __init__(self, message: str, steps: Iterable[Step]) -> None:
        super().__init__(message)
        self.steps = tuple(steps)

    @property
    def step(self) -> Step | None:
        """The last request; None when there was none."""
        return self.steps[-1] if self.steps else None

    @property
    def scopes(self) -> frozenset[str]:
        """Every scope that the node requested."""
        return frozenset(scope for step in self.steps for scope in step.scopes)
