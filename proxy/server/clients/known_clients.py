"""Clients configured by the operator: users of an htpasswd file, client certificates, or both."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from proxy.auth.inward.htpasswd import Htpasswd, TooManyChecks
from proxy.oci.errors import Denied, RegistryError, TooManyRequests, Unauthorized
from proxy.oci.login import ANONYMOUS_NAME, AuthMethod, Caller, Login, LoginKind
from proxy.oci.request import RegistryRequest
from proxy.routing.table import Route
from proxy.rules.patterns import covers
from proxy.server.clients.checks import BASIC_CHALLENGE, CredentialInvalid, parse_basic

ALTERNATIVE_KINDS = ("DNS", "URI", "email")
"""Supported types of subject alternative names, as in `clients.subjects` and in Python: `DNS:node1.example`."""
NAME_LIMIT = 255
"""Maximum characters of a name; longer ones are ignored."""

PeerCertificate = Mapping[str, Any]
"""The result of `ssl.SSLSocket.getpeercert()`; empty if the certificate was not verified."""


@dataclass(frozen=True, slots=True)
class _Names:
    common: str | None
    alternative: tuple[str, ...]


def subject_name(peercert: PeerCertificate | None) -> str | None:
    """The client's name for logs and access rules: the common name, else the first alternative name with its type.

    None if no name is usable; this is not the same as no certificate.
    """
    names = _names(peercert)
    return names.common or next(iter(names.alternative), None)


def is_allowed(peercert: PeerCertificate | None, patterns: Iterable[str]) -> bool:
    """Whether a name of a verified certificate matches one of the patterns; without patterns all are allowed.

    A pattern with `DNS:`, `URI:` or `email:` matches alternative names of that type, any other one common names.
    """
    listed = tuple(patterns)
    if not listed:
        return bool(peercert)
    names = _names(peercert)
    return any(_matches(pattern, names) for pattern in listed)


def _matches(pattern: str, names: _Names) -> bool:
    kind, colon, rest = pattern.partition(":")
    if colon and kind in ALTERNATIVE_KINDS:
        wanted = f"{kind}:{rest.lower()}" if kind == "DNS" else pattern
        return any(covers(wanted, name) for name in names.alternative)
    return names.common is not None and covers(pattern, names.common)


def _names(peercert: PeerCertificate | None) -> _Names:
    if not peercert:
        return _Names(None, ())
    common = [value for part in peercert.get("subject", ()) for key, value in part if key == "commonName"]
    # With several common names, each reader could choose a different one.
    only = common[0] if len(common) == 1 and _is_plain(common[0]) and not _is_reserved(common[0]) else None
    return _Names(only, tuple(_alternative(peercert.get("subjectAltName", ()))))


def _alternative(entries: Iterable[tuple[str, object]]) -> Iterator[str]:
    for kind, value in entries:
        if kind in ALTERNATIVE_KINDS and _is_plain(value):
            yield f"{kind}:{str(value).lower() if kind == 'DNS' else value}"


def _is_plain(value: object) -> bool:
    """Whether it is printable ASCII without surrounding spaces: other characters can imitate another name."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LIMIT:
        return False
    return value.isascii() and value.isprintable() and value == value.strip()


def _is_reserved(common: str) -> bool:
    """Whether a common name could be mistaken for an anonymous client or an alternative name."""
    return common == ANONYMOUS_NAME or common.partition(":")[0] in ALTERNATIVE_KINDS


RETRY_AFTER = 1.0
"""Retry-After in seconds if a password could not be checked."""
_LOGIN_REQUIRED = "this listener requires user and password"


class LoginMethod(Protocol):
    """A method of client authentication."""

    @property
    def method(self) -> AuthMethod:
        """The method, as in the access log."""

    async def name(self, request: web.BaseRequest) -> str | None:
        """The client's name; None if it sent no credential of this kind. Raises Unauthorized and Denied."""


class Passwords:
    """`basic`: user and password from the htpasswd file."""

    method: AuthMethod = "basic"

    def __init__(self, users: Htpasswd) -> None:
        self._users = users

    async def name(self, request: web.BaseRequest) -> str | None:
        """The user; None without credentials."""
        lines = request.headers.getall("Authorization", [])
        if not lines:
            return None
        try:
            login = parse_basic(lines)
        except CredentialInvalid as error:
            raise Unauthorized(str(error), challenge=BASIC_CHALLENGE) from None
        if not await self._is_valid(login, request.remote or ""):
            raise Unauthorized("wrong user or password", challenge=BASIC_CHALLENGE)
        return login.username

    async def _is_valid(self, login: Login, address: str) -> bool:
        if login.kind is not LoginKind.PASSWORD:
            return False
        try:
            return await self._users.check(login.username, login.secret, address)
        except TooManyChecks as error:
            raise TooManyRequests(str(error), retry_after=RETRY_AFTER) from None


class Certificates:
    """`certificate`: a certificate of the listener's CA with an allowed name."""

    method: AuthMethod = "certificate"

    def __init__(self, subjects: tuple[str, ...]) -> None:
        self._subjects = subjects

    async def name(self, request: web.BaseRequest) -> str | None:
        """The certificate's name; None without a certificate."""
        certificate = _peer_certificate(request)
        if not certificate:
            return None
        name = subject_name(certificate)
        if name is None or not is_allowed(certificate, self._subjects):
            raise Denied(
                f"the certificate of {name or 'a client without a usable name'} matches none of clients.subjects"
            )
        return name


class KnownClients:
    """Clients that authenticate with one of several methods."""

    def __init__(self, methods: tuple[LoginMethod, ...], *, accepts_passwords: bool) -> None:
        self._methods = methods
        self._accepts_passwords = accepts_passwords

    async def identify(self, request: web.BaseRequest, pull: RegistryRequest) -> Caller:  # noqa: ARG002 - the same for all
        """The client; raises Unauthorized if it must authenticate, Denied if it cannot."""
        for method in self._methods:
            name = await method.name(request)
            if name is not None:
                return Caller(name, method=method.method)
        if self._accepts_passwords:
            raise Unauthorized(_LOGIN_REQUIRED, challenge=BASIC_CHALLENGE)
        raise Denied("this listener requires a client certificate")

    def permit(self, route: Route, pull: RegistryRequest) -> None:
        """Permit every route: these clients pull with the credentials of scope-proxy."""

    def client_error(self, request: web.BaseRequest, pull: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """The error unchanged: it concerns the credentials of scope-proxy or an access rule."""
        return error


def _peer_certificate(request: web.BaseRequest) -> dict[str, Any] | None:
    transport = request.transport
    certificate: dict[str, Any] | None = transport.get_extra_info("peercert") if transport is not None else None
    return certificate
