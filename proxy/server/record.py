"""What is known of one request while it is answered: handlers fill it in, one place logs it and counts it."""

from dataclasses import dataclass
from typing import Literal

from proxy.oci.request import Operation, RegistryRequest
from proxy.routing.table import Route


@dataclass(slots=True)
class RequestRecord:
    """The attributes of the one log line and of the metrics of a request."""

    method: str
    path: str
    client: str
    agent: str
    operation: Literal["token", "other"] | Operation = "other"
    """What is requested, as a label."""
    asked: RegistryRequest | None = None
    """What was asked, once it is understood."""
    decision: Route | None = None
    """Where it is pulled from, once that is known."""
    has_login: bool = False
    """Whether the client has shown a credential, good or bad."""
    user: str = ""
    registry: str = ""
    repository: str = ""
    upstream: str = ""
    status: int = 0
    sent: int = 0
    cache: str = ""
    """The way in which it was served, one of five; empty where nothing of a registry was served."""
    first_byte: float = 0.0
    """When the first byte of the answer was ready to be sent, on the clock of `perf_counter`."""
    error: str = ""
    aborted: str = ""
    """Why the request was cut: client_gone, slow_client, upstream, store, digest_mismatch, internal, shutdown."""
