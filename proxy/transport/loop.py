"""Noticing that our requests come back to us: an endpoint that is, at last, this very proxy."""

import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

INSTANCE: Final = f"scope-proxy-{secrets.token_hex(6)}"
"""A name for this installation of listeners; workers that are forked share it."""
VIA_LIMIT = 1024
"""Characters of Via that are sent on; who has more proxies in a row has a loop."""

RECEIVED_VIA: Final[ContextVar[str]] = ContextVar("received_via", default="")
"""What the request that is being answered has come through."""


def note_via(lines: Iterable[str]) -> bool:
    """Remember what a request has come through; whether this proxy is in it, or too much is."""
    received = ", ".join(lines)
    RECEIVED_VIA.set(received)
    return INSTANCE in received or len(received) > VIA_LIMIT


def via() -> str:
    """The Via header of a request to an upstream (RFC 9110, section 7.6.3)."""
    received = RECEIVED_VIA.get()
    return f"{received}, 1.1 {INSTANCE}" if received else f"1.1 {INSTANCE}"
