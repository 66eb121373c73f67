"""One examination: its subject, requests to it that are bounded in time and size, and what went wrong with them."""

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
    """A handshake that went well."""

    version: str
    certificate: bytes = field(repr=False)
    """In DER."""


class Handshakes:
    """The first handshake with each server, by the name that it was asked under."""

    def __init__(self) -> None:
        self._seen: dict[str, Handshake] = {}

    def watch(self, contexts: Iterable[ssl.SSLContext]) -> None:
        """See all connections made with these contexts from now on."""
        watched = _watching(self._seen)
        for context in contexts:
            context.sslobject_class = watched

    def of(self, host: str) -> Handshake | None:
        """The handshake with a host."""
        return self._seen.get(host)


def _watching(seen: dict[str, Handshake]) -> type[ssl.SSLObject]:
    """A connection that tells what it was shown: the library hands its certificate out only while it is in use."""

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert(binary_form=True)
            if certificate is not None and self.server_hostname is not None:
                seen.setdefault(self.server_hostname, Handshake(self.version() or "TLS", certificate))

    return Watched


REQUEST_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, RedirectRefused)
"""What a request to the outside can end with."""

_EXPIRED = 10
_NOT_YET_VALID = 9
_WRONG_NAME = frozenset({62, 64})
"""The name, or the address, does not stand in the certificate."""
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})
_ALTERNATIVE = "only subject alternative names count, not the common name"


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """What went wrong, and at which step of making a connection."""

    check: Check
    """Resolution, connection, TLS, or redirect where we refused to go on."""
    seen: str
    advice: str


def explain(error: BaseException, origin: Origin) -> RequestFailure:
    """The trouble with a request that was sent to this origin; no URL's query is in it."""
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
            advice = "look at the firewall, or set HTTPS_PROXY if a forward proxy is needed"
            return RequestFailure(Check.CONNECTION, f"{host} did not answer in time", advice)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return RequestFailure(
                Check.CONNECTION, f"the forward proxy does not let us reach {host}", "look at HTTPS_PROXY"
            )
        case aiohttp.ClientConnectorError():
            reason = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            advice = "check that the registry runs, its port, and the firewall"
            return RequestFailure(Check.CONNECTION, f"{host} cannot be reached: {reason}", advice)
        case aiohttp.ClientPayloadError():
            advice = "look at what stands before the registry: it cuts answers"
            return RequestFailure(Check.CONNECTION, f"{host} broke off in the middle of its answer", advice)
        case _:
            closed = isinstance(error, aiohttp.ClientConnectionError | OSError)
            what = "closed the connection without an answer" if closed else f"sent no HTTP ({type(error).__name__})"
            advice = "check that the port is the registry's, and https or http is right"
            return RequestFailure(Check.CONNECTION, f"{host} {what}", advice)


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


def _refused(error: BaseException, host: str) -> RequestFailure | None:
    """A refusal of our own, which the HTTP client may have wrapped."""
    if isinstance(error, RedirectRefused):
        return RequestFailure(Check.REDIRECT, str(error), "have the registry mended, or allow it as the line says")
    refused = refused_address(error)
    if refused is None:
        return None
    advice = "if this is right, add the origin of that server to realms or redirects of the registry's host"
    return RequestFailure(Check.REDIRECT, f"asking {host} leads where we do not go: {refused}", advice)


REQUEST_SECONDS = 15.0
"""For one request, its body included."""
BODY_LIMIT = 64 * 1024
"""Bytes of a body that are read, where nothing else is said."""

_OPERATION = "doctor"


class Stopped(Exception):
    """There is no sense in going on; the message says why, for the checks that are not come to."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, read as far as it may be."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    challenges: tuple[str, ...]
    """The lines of WWW-Authenticate."""
    body: bytes = field(repr=False)
    url: URL = field(repr=False)
    """Where it came from at last."""
    elsewhere: bool
    """It came from another origin."""
    at: float
    """When it was made, in seconds since the epoch by our clock; the middle between request and answer."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What every check works with."""

    subject: Subject
    config: Config
    sessions: Sessions
    proxies: ForwardProxies
    handshakes: Handshakes
    journal: Journal

    @property
    def host(self) -> Host:
        """The settings of the endpoint's host."""
        return self.config.host(self.subject.origin)

    @property
    def key(self) -> str:
        """The host's entry as it is written in the configuration."""
        return f'hosts."{self.subject.host}"'

    async def request(
        self, method: str, url: URL, headers: Mapping[str, str] | None = None, *, limit: int = BODY_LIMIT
    ) -> Response:
        """Ask the endpoint and follow its redirects; of the body one byte more than `limit` is read at the most.

        Raises what is in REQUEST_ERRORS.
        """
        outgoing = Outgoing(method, url, self.subject.origin, headers or {}, (self.subject.upstream, _OPERATION))
        begun = time.time()
        async with asyncio.timeout(REQUEST_SECONDS):
            followed = await follow(self.sessions, outgoing)
            at = (begun + time.time()) / 2
            response = HttpResponse(followed.response, elsewhere=followed.elsewhere)
            body = await response.read_and_close(limit)
        # What another server wants is nothing to us: no credential of ours is for it.
        challenges = () if response.elsewhere else tuple(response.headers.getall("WWW-Authenticate", []))
        return Response(response.status, response.headers, challenges, body, response.url, response.elsewhere, at)

    async def request_for(
        self, check: Check, method: str, url: URL, headers: Mapping[str, str], limit: int
    ) -> Response:
        """The same for one check: trouble is its failure; raises Stopped."""
        try:
            return await self.request(method, url, headers, limit=limit)
        except REQUEST_ERRORS as error:
            self.stop(check, error)

    def stop(self, check: Check, error: BaseException, origin: Origin | None = None) -> NoReturn:
        """Tell of the trouble of a check, and go no further; raises Stopped."""
        failure = explain(error, origin or self.subject.origin)
        self.journal.failed(check, failure.seen, failure.advice)
        raise Stopped(f"not reached: {check.value} failed") from error
