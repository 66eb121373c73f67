"""Errors of the HTTP client, translated where they enter: nothing above this knows aiohttp's exceptions."""

import errno
import os
from enum import Enum, auto

import aiohttp

from proxy.routing.table import Target
from proxy.transport.addresses import AddressRefused
from proxy.transport.limits import QueueFull
from proxy.transport.redirect import RedirectRefused
from proxy.upstream.failure import EndpointFailure, Refused, TlsFailed, Unavailable

TROUBLE = (aiohttp.ClientError, TimeoutError, OSError, QueueFull, RedirectRefused)
"""What a request to the outside can end with."""


class Waiting(Enum):
    """What a request waits for: where its time went is what the operator wants to know."""

    PLACE = auto()
    TOKEN = auto()
    ANSWER = auto()
    BODY = auto()


_TOO_LATE = {
    Waiting.PLACE: "{host}: all connections that it may get at once are in use (maxConnections)",
    Waiting.TOKEN: "no token for {host} came in time: its token server or a credential helper is slow",
    Waiting.ANSWER: "{host} did not answer in time",
    Waiting.BODY: "{host} did not send its whole answer in time",
}


def translate(error: BaseException, target: Target, *, spent: Waiting | None) -> tuple[EndpointFailure, str]:
    """What an error means for the endpoint, and its reason for the metrics; the message never holds a URL's query.

    `spent` tells what was being waited for when the budget was over; None while there is some left.
    """
    host = target.endpoint.origin.authority
    if (refused := _refused_address(error)) is not None:
        return Refused(f"{host} redirects where we do not go: {refused}"), "redirect_blocked"
    if isinstance(error, RedirectRefused):
        return Refused(str(error)), "redirect_blocked"
    if isinstance(error, QueueFull):
        return Unavailable(f"{host}: {error}", limited=True), "overload"
    if spent is not None:
        limited = spent is Waiting.PLACE
        failure = Unavailable(_TOO_LATE[spent].format(host=host), timeout=True, limited=limited)
        return failure, "overload" if limited else "timeout"
    reason, text = _connection_trouble(error)
    if reason == "tls":
        return Unavailable(f"{host} {text}", lasting=True, error=TlsFailed), reason
    return Unavailable(f"{host} {text}", timeout=reason == "timeout"), reason


def _connection_trouble(error: BaseException) -> tuple[str, str]:
    """Reason for the metrics and words for people; subclasses stand before their bases."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "tls", f"failed in TLS: {_tls_reason(error)}"
        case aiohttp.ClientConnectorDNSError():
            return "dns", "cannot be resolved"
        case TimeoutError():
            return "timeout", "cannot be reached in time"
        case aiohttp.ClientConnectorError():
            return "connect", f"cannot be reached: {_words(error.os_error)}"
        case aiohttp.ClientPayloadError():
            return "truncated", "broke off in the middle of its answer"
        case _:
            pass
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return "reset", "closed the connection without an answer"
    return "protocol", f"sent an answer that is not HTTP: {type(error).__name__}"


def _words(error: OSError) -> str:
    """The system's own words; asyncio puts Python's in their place."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "scope-proxy has no file descriptor left (ulimit -n)"
    return os.strerror(error.errno) if error.errno else "no connection"


def _tls_reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        verify = error.certificate_error
        return str(getattr(verify, "verify_message", "") or type(verify).__name__)
    return str(getattr(getattr(error, "os_error", None), "reason", "") or type(error).__name__)


def _refused_address(error: BaseException | None) -> AddressRefused | None:
    """The refusal of our resolver, which aiohttp wraps."""
    for _ in range(5):
        if error is None or isinstance(error, AddressRefused):
            return error
        error = error.__cause__ or getattr(error, "os_error", None)
    return None
