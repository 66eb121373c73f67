"""Attributes of one request: handlers set them; `app` logs and counts the request."""

from dataclasses import dataclass
from typing import Literal

from proxy.observe.log import LastEndpoint
from proxy.oci.request import Operation, RegistryRequest
from proxy.routing.access import AccessDecision
from proxy.routing.table import Route


@dataclass(frozen=True, slots=True)
class DecidingSetting:
    """A setting that allows or denies requests: what it says, and its position in the configuration."""

    text: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """The settings of a listener that deny requests before an access rule applies."""

    clients: DecidingSetting = DecidingSetting()
    registries: DecidingSetting = DecidingSetting()


@dataclass(slots=True)
class RequestRecord:
    """The attributes of a request's log line and metrics."""

    method: str
    path: str
    client: str
    agent: str
    operation: Literal["token", "other"] | Operation = "other"
    """The operation, as a metric label."""
    pull: RegistryRequest | None = None
    """The request, once parsed."""
    route: Route | None = None
    """The route, once resolved."""
    has_login: bool = False
    """Whether the client sent a credential, valid or not."""
    settings: ListenerSettings = ListenerSettings()
    user: str = ""
    auth: str = ""
    """How the client authenticated; empty if it did not, or before it did."""
    access: AccessDecision | None = None
    """The decision of the access rules, if there are any."""
    denied_by: DecidingSetting | None = None
    """The setting that denied the request, unless it is an access rule."""
    registry: str = ""
    repository: str = ""
    upstream: str = ""
    status: int = 0
    sent: int = 0
    digest: str = ""
    """The digest of the content that the response describes."""
    endpoint: LastEndpoint | None = None
    cache: str = ""
    """The cache result (hit, join, miss, stale, bypass); empty if no registry content was served."""
    first_byte: float = 0.0
    """Time at which the first byte of the response was ready, on the clock of `perf_counter`."""
    error: str = ""
    code: str = ""
    """The code of the error response."""
    reason: str = ""
    """Why scope-proxy or an upstream refused the request; one of `access_log.REASONS`."""
    aborted: str = ""
    """Why the response was aborted: client_gone, slow_client, upstream, store, digest_mismatch, internal, shutdown."""
