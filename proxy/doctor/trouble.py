"""What went wrong on the way to a server, in words, and what to do about it."""

import os
import ssl
from dataclasses import dataclass

import aiohttp

from proxy.config.address import Origin
from proxy.doctor.report import Check
from proxy.transport.redirect import RedirectRefused
from proxy.transport.trouble import cause, refused_address

TROUBLE = (aiohttp.ClientError, TimeoutError, OSError, RedirectRefused)
"""What a request to the outside can end with."""

_EXPIRED = 10
_NOT_YET_VALID = 9
_WRONG_NAME = frozenset({62, 64})
"""The name, or the address, does not stand in the certificate."""
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})
_ALTERNATIVE = "only subject alternative names count, not the common name"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong, and at which step of making a connection."""

    check: Check
    """Resolution, connection, TLS, or redirect where we refused to go on."""
    seen: str
    advice: str


def explain(error: BaseException, origin: Origin) -> Trouble:
    """The trouble with a request that was sent to this origin; no URL's query is in it."""
    host = origin.authority
    refused = _refused(error, host)
    if refused is not None:
        return refused
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return Trouble(Check.TLS, *_tls(error, host))
        case aiohttp.ClientConnectorDNSError():
            return Trouble(Check.RESOLUTION, f"{host} cannot be resolved", "check the name, and DNS of this machine")
        case TimeoutError():
            advice = "look at the firewall, or set HTTPS_PROXY if a forward proxy is needed"
            return Trouble(Check.CONNECTION, f"{host} did not answer in time", advice)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return Trouble(Check.CONNECTION, f"the forward proxy does not let us reach {host}", "look at HTTPS_PROXY")
        case aiohttp.ClientConnectorError():
            reason = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            advice = "check that the registry runs, its port, and the firewall"
            return Trouble(Check.CONNECTION, f"{host} cannot be reached: {reason}", advice)
        case aiohttp.ClientPayloadError():
            advice = "look at what stands before the registry: it cuts answers"
            return Trouble(Check.CONNECTION, f"{host} broke off in the middle of its answer", advice)
        case _:
            closed = isinstance(error, aiohttp.ClientConnectionError | OSError)
            what = "closed the connection without an answer" if closed else f"sent no HTTP ({type(error).__name__})"
            advice = "check that the port is the registry's, and https or http is right"
            return Trouble(Check.CONNECTION, f"{host} {what}", advice)


def _tls(error: BaseException, host: str) -> tuple[str, str]:
    verification = cause(error, ssl.SSLCertVerificationError)
    if verification is None:
        failure = cause(error, ssl.SSLError)
        reason = (failure.reason if failure is not None else None) or type(error).__name__
        advice = f'write http://{host} if it speaks plain HTTP, else look at its TLS versions and hosts."{host}".tls'
        return f"the TLS handshake with {host} failed: {reason}", advice
    seen = f"the certificate of {host} is refused: {verification.verify_message}"
    match verification.verify_code:
        case code if code == _EXPIRED:
            return seen, f"renew the certificate of {host}"
        case code if code == _NOT_YET_VALID:
            return seen, "check the clock of this machine"
        case code if code in _WRONG_NAME:
            return seen, f"reach it by a name that stands in its certificate, or have the name added; {_ALTERNATIVE}"
        case code if code in _UNKNOWN_ISSUER:
            return seen, f'set hosts."{host}".tls.caFile to the certificate of its authority'
        case _:
            return seen, f"look at the certificate of {host}"


def _refused(error: BaseException, host: str) -> Trouble | None:
    """A refusal of our own, which the HTTP client may have wrapped."""
    if isinstance(error, RedirectRefused):
        return Trouble(Check.REDIRECT, str(error), "have the registry mended, or allow it as the line says")
    refused = refused_address(error)
    if refused is None:
        return None
    advice = "if this is right, add the origin of that server to realms or redirects of the registry's host"
    return Trouble(Check.REDIRECT, f"asking {host} leads where we do not go: {refused}", advice)
