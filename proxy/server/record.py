"""What is known of one request while it is answered: handlers fill it in, one place logs it and counts it."""

from dataclasses import dataclass

from proxy.oci.request import Operation


@dataclass(slots=True)
class RequestRecord:
    """The attributes of the one log line and of the metrics of a request."""

    method: str
    path: str
    client: str
    agent: str
    operation: Operation | None = None
    registry: str = ""
    repository: str = ""
    upstream: str = ""
    status: int = 0
    sent: int = 0
    error: str = ""
    aborted: str = ""
    """Why a body was cut: client_gone, upstream, store, digest_mismatch."""

    @property
    def route(self) -> str:
        """The operation as a label; `other` for what is none."""
        return self.operation.value if self.operation else "other"
