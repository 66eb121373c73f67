"""Errors of the HTTP client in words for people."""

import contextlib
import errno
import os
from typing import TypeVar

import aiohttp

from proxy.transport.addresses import AddressRefused, TooManyLookups

_CAUSES_LIMIT = 5
_SPENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of the system that say nothing of the other side: this machine, or this process, has nothing left."""
_NO_DESCRIPTOR = "scope-proxy has no file descriptor left (ulimit -n)"
Found = TypeVar("Found", bound=BaseException)


def connection_trouble(error: BaseException) -> tuple[str, str]:
    """Reason for the metrics, and words that go on from the name of a host; subclasses stand before their bases."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "tls", f"failed in TLS: {_tls_reason(error)}"
        case aiohttp.ClientConnectorDNSError():
            return "dns", _lookup_words(error)
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


def refused_address(error: BaseException) -> AddressRefused | None:
    """The refusal of our resolver, if that is what it comes from."""
    return cause(error, AddressRefused)


def is_own_limit(error: BaseException) -> bool:
    """Whether a limit of this program or machine is what it comes from, so that no request was sent."""
    if cause(error, TooManyLookups) is not None:
        return True
    if isinstance(error, aiohttp.ClientConnectorDNSError) and not _has_descriptor():
        return True  # the system's resolver calls that by another name
    found = cause(error, OSError)
    return found is not None and found.errno in _SPENT


def _has_descriptor() -> bool:
    with contextlib.suppress(OSError):
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return True
    return False


def cause(error: BaseException | None, kind: type[Found]) -> Found | None:
    """The error of this kind that the HTTP client has wrapped, if there is one."""
    for _ in range(_CAUSES_LIMIT):
        # The client's own errors inherit from those that they wrap, and hold nothing of them.
        if error is None or (isinstance(error, kind) and not isinstance(error, aiohttp.ClientError)):
            return error
        error = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__
    return None


def _lookup_words(error: BaseException) -> str:
    if not is_own_limit(error):
        return "cannot be resolved"
    found = cause(error, TooManyLookups)
    return f"is not looked up: {found}" if found is not None else f"cannot be resolved: {_NO_DESCRIPTOR}"


def _words(error: OSError) -> str:
    """The system's own words; asyncio puts Python's in their place."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return _NO_DESCRIPTOR
    return os.strerror(error.errno) if error.errno else "no connection"


def _tls_reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        verify = error.certificate_error
        return str(getattr(verify, "verify_message", "") or type(verify).__name__)
    return str(getattr(getattr(error, "os_error", None), "reason", "") or type(error).__name__)
