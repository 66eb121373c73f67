"""One examination: its subject, requests bounded in time and size, and explanations of their failures."""

import asyncio
import os
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import aiohttp
from yarl import URL

from proxy.config.address import Origin
from proxy.config.model import Config, Host
from proxy.doctor.report import Check, Journal
from proxy.doctor.subject import Subject
from proxy.transport.connection_errors import cause, refused_address
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.redirect import RedirectRefused, follow
from proxy.transport.response import HttpResponse
from proxy.transport.session import Outgoing, Sessions


@dataclass(frozen=True, slots=True)
class Handshake:
    """A successful TLS handshake."""

    version: str
    certificate: bytes = field(repr=False)
    """In DER."""


class Handshakes:
    """The first handshake with each server, by server name."""

    def __init__(self) -> None:
        self._seen: dict[str, Handshake] = {}

    def watch(self, contexts: Iterable[ssl.SSLContext]) -> None:
        """Record the handshakes of all later connections made with these contexts."""
        watched = _watching(self._seen)
        for context in contexts:
            context.sslobject_class = watched

    def of(self, host: str) -> Handshake | None:
        """The handshake with a host."""
        return self._seen.get(host)


def _watching(seen: dict[str, Handshake]) -> type[ssl.SSLObject]:
    """A connection class that records the certificate: the library gives it out only while the connection is in use."""

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert(binary_form=True)
            if certificate is not None and self.server_hostname is not None:
                seen.setdefault(self.server_hostname, Handshake(self.version() or "TLS", certificate))

    return Watched


REQUEST_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, RedirectRefused)
"""Errors of outgoing requests."""

_EXPIRED = 10
_NOT_YET_VALID = 9
_WRONG_NAME = frozenset({62, 64})
"""The certificate does not contain the name or address."""
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})
_ALTERNATIVE = "only subject alternative names count, not the common name"


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """Why a request failed, and at which step."""

    check: Check
    """Resolution, connection, TLS, or a refused redirect."""
    seen: str
    advice: str


def explain(error: BaseException, origin: Origin) -> RequestFailure:
    """Explain the failure of a request to this origin, without the URL's query."""
    host = origin.authority
    refused = _refused(error, host)
    if refused is not None:
        return refused
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return RequestFailure(Check.TLS, *_tls(error, host))
        case aiohttp.ClientConnectorDNSError():
            return RequestFailure(
                Check.RESOLUTION, f"{host} cannot be resolved", "check the name, and DNS of this machine"
            )
        case TimeoutError():
            advice = "check the firewall, or set HTTPS_PROXY if a forward proxy is needed"
            return RequestFailure(Check.CONNECTION, f"{host} did not answer in time", advice)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return RequestFailure(
                Check.CONNECTION, f"the forward proxy refuses connections to {host}", "check HTTPS_PROXY"
            )
        case aiohttp.ClientConnectorError():
            reason = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            advice = "check that the registry runs, its port, and the firewall"
            return RequestFailure(Check.CONNECTION, f"{host} cannot be reached: {reason}", advice)
        case aiohttp.ClientPayloadError():
            advice = "check the reverse proxy in front of the registry: it truncates responses"
            return RequestFailure(
                Check.CONNECTION, f"{host} closed the connection in the middle of its response", advice
            )
        case _:
            closed = isinstance(error, aiohttp.ClientConnectionError | OSError)
            what = "closed the connection without a response" if closed else f"sent no HTTP ({type(error).__name__})"
            advice = "check that the port is the registry's, and https or http is right"
            return RequestFailure(Check.CONNECTION, f"{host} {what}", advice)


def _tls(error: BaseException, host: str) -> tuple[str, str]:
    verification = cause(error, ssl.SSLCertVerificationError)
    if verification is None:
        failure = cause(error, ssl.SSLError)
        reason = (failure.reason if failure is not None else None) or type(error).__name__
        advice = f'write http://{host} if it speaks plain HTTP, else check its TLS versions and hosts."{host}".tls'
        return f"the TLS handshake with {host} failed: {reason}", advice
    seen = f"the certificate of {host} is refused: {verification.verify_message}"
    match verification.verify_code:
        case code if code == _EXPIRED:
            return seen, f"renew the certificate of {host}"
        case code if code == _NOT_YET_VALID:
            return seen, "check the clock of this machine"
        case code if code in _WRONG_NAME:
            return seen, f"use a name that its certificate contains, or have the name added; {_ALTERNATIVE}"
        case code if code in _UNKNOWN_ISSUER:
            return seen, f'set hosts."{host}".tls.caFile to its CA certificate'
        case _:
            return seen, f"check the certificate of {host}"


def _refused(error: BaseException, host: str) -> RequestFailure | None:
    """A refusal by scope-proxy itself, which the HTTP client may have wrapped."""
    if isinstance(error, RedirectRefused):
        return RequestFailure(Check.REDIRECT, str(error), "fix the registry, or allow the redirect as the message says")
    refused = refused_address(error)
    if refused is None:
        return None
    advice = "if this is right, add the origin of that server to realms or redirects of the registry's host"
    return RequestFailure(
        Check.REDIRECT, f"the request to {host} was redirected to a blocked address: {refused}", advice
    )


REQUEST_SECONDS = 15.0
"""Timeout of one request with its body."""
BODY_LIMIT = 64 * 1024
"""Default limit in bytes of the body that is read."""

_OPERATION = "doctor"


class Stopped(Exception):
    """The remaining checks cannot run; the message is their reason."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response, its body read up to a limit."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    challenges: tuple[str, ...]
    """The lines of WWW-Authenticate."""
    body: bytes = field(repr=False)
    url: URL = field(repr=False)
    """Its URL after redirects."""
    elsewhere: bool
    """It came from another origin."""
    at: float
    """Our time midway between request and response, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Examination:
    """The inputs of every check."""

    subject: Subject
    config: Config
    sessions: Sessions
    proxies: ForwardProxies
    handshakes: Handshakes
    journal: Journal
    request_seconds: float = REQUEST_SECONDS

    @property
    def host(self) -> Host:
        """The settings of the endpoint's host."""
        return self.config.host(self.subject.origin)

    @property
    def key(self) -> str:
        """The host's key in the configuration."""
        return f'hosts."{self.subject.host}"'

    async def request(
        self, method: str, url: URL, headers: Mapping[str, str] | None = None, *, limit: int = BODY_LIMIT
    ) -> Response:
        """Send a request to the endpoint and follow redirects; reads at most `limit` + 1 bytes of the body.

        Raises REQUEST_ERRORS.
        """
        outgoing = Outgoing(method, url, self.subject.origin, headers or {}, (self.subject.upstream, _OPERATION))
        begun = time.time()
        async with asyncio.timeout(self.request_seconds):
            followed = await follow(self.sessions, outgoing)
            at = (begun + time.time()) / 2
            response = HttpResponse(followed.response, elsewhere=followed.elsewhere)
            body = await response.read_and_close(limit)
        # Ignore the challenge of another server: no credential is meant for it.
        challenges = () if response.elsewhere else tuple(response.headers.getall("WWW-Authenticate", []))
        return Response(response.status, response.headers, challenges, body, response.url, response.elsewhere, at)

    async def request_for(
        self, check: Check, method: str, url: URL, headers: Mapping[str, str], limit: int
    ) -> Response:
        """Like `request`, for one check: an error fails it and raises Stopped."""
        try:
            return await self.request(method, url, headers, limit=limit)
        except REQUEST_ERRORS as error:
            self.stop(check, error)

    def stop(self, check: Check, error: BaseException, origin: Origin | None = None) -> NoReturn:
        """Fail the check with this error; raises Stopped."""
        failure = explain(error, origin or self.subject.origin)
        self.journal.failed(check, failure.seen, failure.advice)
        raise Stopped(f"not run: {check.value} failed") from error
