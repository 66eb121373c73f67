"""Attributes of one request: handlers set them; `app` logs and counts the request."""

from dataclasses import dataclass
from typing import Literal

from proxy.oci.request import Operation, RegistryRequest
from proxy.routing.table import Route


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
    decision: Route | None = None
    """The route, once resolved."""
    has_login: bool = False
    """Whether the client sent a credential, valid or not."""
    user: str = ""
    registry: str = ""
    repository: str = ""
    upstream: str = ""
    status: int = 0
    sent: int = 0
    cache: str = ""
    """The cache result (hit, join, miss, stale, bypass); empty if no registry content was served."""
    first_byte: float = 0.0
    """Time at which the first byte of the response was ready, on the clock of `perf_counter`."""
    error: str = ""
    aborted: str = ""
    """Why the response was aborted: client_gone, slow_client, upstream, store, digest_mismatch, internal, shutdown."""
