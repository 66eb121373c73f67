"""The values of the status page and of its JSON.

Times are seconds since the epoch, sizes are bytes. No value contains a secret.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from proxy.auth.inward.watched_file import FileStatus
from proxy.server.refusals import Refusal
from proxy.upstream.endpoints import EndpointHealth
from proxy.upstream.rate_limits import RateLimitStatus


class Level(StrEnum):
    """Severity."""

    OK = "ok"
    WARNING = "warning"
    BAD = "bad"
    """Pulls fail."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A finding for the operator, with advice."""

    level: Level
    text: str
    advice: str


@dataclass(frozen=True, slots=True)
class Process:
    """The process that serves the status page."""

    version: str
    pid: int
    workers: int
    started_at: float
    ready: bool
    draining: bool
    in_flight: int
    """Requests of nodes in flight in this process."""


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """An address that nodes connect to."""

    address: str
    tls: bool
    auth: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """An endpoint of a registry, and its health in this process."""

    url: str
    health: EndpointHealth


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """An entry of `registries`."""

    name: str
    level: Level
    endpoints: tuple[EndpointStatus, ...]


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """Required tokens, by how they were obtained."""

    cached: int
    fetched: int
    joined: int
    denied: int
    error: int


@dataclass(frozen=True, slots=True)
class ScopeFigures:
    """Scopes in challenges and in token requests."""

    asked: int
    """Requested scopes: one per token."""
    kept: int
    """Requested as in the challenge."""
    replaced: int
    """The scope of the rewritten repository was requested instead."""
    added: int
    """The challenge named no scope."""
    dropped: int
    """Named in a challenge and not requested."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Counters since the start, summed over all workers."""

    requests: int
    refused: int
    """Responses with 4xx."""
    failed: int
    """Responses with 5xx."""
    served: dict[str, int]
    """Pulls by cache result: hit, join, miss, stale, bypass."""
    bytes_sent: int
    request_ratio: float | None
    """Share of pulls served without an upstream transfer; None before the first pull."""
    byte_ratio: float | None
    saved_requests: int
    saved_bytes: int
    tokens: TokenFigures
    scopes: ScopeFigures
    write_errors: int
    """Failures to store content."""


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """Usage of the cache; None if unknown."""

    path: str
    limit: int
    bytes: int | None
    objects: int | None
    trouble: str
    """Why the cache is unavailable; empty if it is available."""
    exposure: str = ""
    """Why other users could replace it; empty if they cannot."""
    pins: str = ""
    """Why pinned images do not fit; empty if they fit."""


@dataclass(frozen=True, slots=True)
class LastWriteError:
    """The last failure to store content."""

    at: float
    reason: str
    """The label value of the metrics, such as enospc, edquot, eio, erofs, emfile, timeout, other."""


@dataclass(frozen=True, slots=True)
class Reload:
    """The last configuration reload."""

    at: float
    problems: tuple[str, ...]
    """Why the reload failed, with positions; empty if it succeeded."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate in use, by its setting."""

    setting: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class Status:
    """All values of the status page."""

    at: float
    process: Process
    upstreams: tuple[UpstreamStatus, ...]
    refusals: tuple[Refusal, ...]
    figures: Figures
    store: StoreUsage | None
    listeners: tuple[ListenerStatus, ...]
    certificates: tuple[Certificate, ...]
    reload: Reload | None
    warnings: tuple[str, ...]
    """Warnings about the configuration in use, with positions."""
    configuration: str
    """The configuration in use as YAML, without secrets."""
    waiting: tuple[str, ...] = ()
    """Changed settings that take effect only after a restart."""
    unkept: LastWriteError | None = None
    tls_problems: tuple[str, ...] = ()
    """Why changed TLS files of listeners are not in use."""
    client_files: tuple[FileStatus, ...] = ()
    """The files for client authentication (`htpasswdFile`, `tokenKeyFile`)."""
    rate_limits: tuple[RateLimitStatus, ...] = ()
    """What registries report of their rate limits, by upstream and credential."""
    level: Level = Level.OK
    """The worst level of the findings."""
    findings: tuple[Notice, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The values as JSON-serializable data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Links:
    """The page's links. They are relative: it may be served below a prefix, for example by `kubectl proxy`."""

    status: str
    json: str
    explain: str
    images: str
