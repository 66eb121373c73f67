"""What the status page tells, as frozen values; the page and the JSON are made of the same ones.

Times are seconds since the epoch, sizes are bytes. No secret stands in any of it.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from proxy.auth.inward.watched_file import FileStatus
from proxy.server.refusals import Refusal
from proxy.upstream.endpoints import EndpointHealth


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    BAD = "bad"
    """Pulls fail."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person should know first, and what to do about it."""

    level: Level
    text: str
    advice: str


@dataclass(frozen=True, slots=True)
class Process:
    """The process that answers."""

    version: str
    pid: int
    workers: int
    started_at: float
    ready: bool
    draining: bool
    in_flight: int
    """Requests of nodes that this process answers now."""


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """An address that nodes talk to."""

    address: str
    tls: bool
    auth: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """An endpoint of a registry, and its health as this process knows it."""

    url: str
    health: EndpointHealth


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """A registry that nodes name."""

    name: str
    level: Level
    endpoints: tuple[EndpointStatus, ...]


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """Tokens needed, by how they were got."""

    cached: int
    fetched: int
    joined: int
    denied: int
    error: int


@dataclass(frozen=True, slots=True)
class ScopeFigures:
    """Scopes, as challenged and as asked for."""

    asked: int
    """Scopes that were asked for: one for each token."""
    kept: int
    """Asked for as challenged."""
    replaced: int
    """Another one was computed: it was rewritten."""
    added: int
    """The challenge named none."""
    dropped: int
    """Named by a challenge and left out."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted since the start, by all workers together."""

    requests: int
    refused: int
    """Answered 4xx."""
    failed: int
    """Answered 5xx."""
    served: dict[str, int]
    """Pulls by how they were served: hit, join, miss, stale, bypass."""
    bytes_sent: int
    request_ratio: float | None
    """Share of the pulls that no upstream was asked for; None before the first one."""
    byte_ratio: float | None
    saved_requests: int
    saved_bytes: int
    tokens: TokenFigures
    scopes: ScopeFigures
    write_errors: int
    """Content that could not be stored."""


@dataclass(frozen=True, slots=True)
class StoreFill:
    """How full the store is; None where nobody knows."""

    path: str
    limit: int
    bytes: int | None
    objects: int | None
    trouble: str
    """Why it cannot be used, in words; empty where it can."""
    exposure: str = ""
    """Why others could replace it, in words; empty where they could not."""


@dataclass(frozen=True, slots=True)
class Unkept:
    """The last time that content could not be stored."""

    at: float
    reason: str
    """A word, as the metrics have it: enospc, edquot, eio, erofs, emfile, other."""


@dataclass(frozen=True, slots=True)
class Reload:
    """The last attempt to take another configuration."""

    at: float
    problems: tuple[str, ...]
    """Why the configuration stayed as it was, each with its place; none where the new one is in force."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that is shown, by the setting that it comes from."""

    setting: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class Status:
    """Everything."""

    at: float
    process: Process
    upstreams: tuple[UpstreamStatus, ...]
    refusals: tuple[Refusal, ...]
    figures: Figures
    store: StoreFill | None
    listeners: tuple[ListenerStatus, ...]
    certificates: tuple[Certificate, ...]
    reload: Reload | None
    warnings: tuple[str, ...]
    """What the configuration in force was warned of, each with its place."""
    configuration: str
    """The configuration in force as YAML, without secrets."""
    waiting: tuple[str, ...] = ()
    """Settings of it that take effect only after a restart."""
    unkept: Unkept | None = None
    tls_problems: tuple[str, ...] = ()
    """Why changed files of listeners are not in use."""
    client_files: tuple[FileStatus, ...] = ()
    """The files by which clients are known (`htpasswdFile`, `tokenKeyFile`)."""
    level: Level = Level.OK
    """The worst of the findings."""
    findings: tuple[Notice, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Links:
    """Where the page's links lead, relative to it: it may be served below a prefix, as by `kubectl proxy`."""

    status: str
    json: str
    explain: str
