"""The last endpoint that scope-proxy contacted for a client's request; a field of the access log."""

from contextvars import ContextVar
from typing import Final


class LastEndpoint:
    """The URL of the endpoint; empty if none was contacted. Tasks that the request starts share it."""

    __slots__ = ("url",)

    def __init__(self) -> None:
        self.url = ""


_CURRENT: Final[ContextVar[LastEndpoint | None]] = ContextVar("last_endpoint", default=None)


def track_endpoint() -> LastEndpoint:
    """Begin a client's request, in this context and in those of the tasks that it starts."""
    current = LastEndpoint()
    _CURRENT.set(current)
    return current


def note_endpoint(url: str) -> None:
    """Note that a request is about to be sent to this endpoint."""
    current = _CURRENT.get()
    if current is not None:
        current.url = url
