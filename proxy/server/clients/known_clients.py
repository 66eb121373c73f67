"""Clients that the operator knows: users of an htpasswd file, client certificates, or either."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from proxy.auth.inward.htpasswd import Htpasswd, TooManyChecks
from proxy.oci.errors import Denied, RegistryError, TooManyRequests, Unauthorized
from proxy.oci.login import ANONYMOUS_NAME, Caller, Login, LoginKind
from proxy.oci.request import RegistryRequest
from proxy.routing.table import Route
from proxy.rules.patterns import covers
from proxy.server.clients.checks import BASIC_CHALLENGE, CredentialInvalid, parse_basic

ALTERNATIVE_KINDS = ("DNS", "URI", "email")
"""Alternative names that count, as Python calls them and as `clients.subjects` writes them: `DNS:node1.example`."""
NAME_LIMIT = 255
"""Characters of a name; longer ones do not count."""

PeerCertificate = Mapping[str, Any]
"""What `ssl.SSLSocket.getpeercert()` returns; empty for a certificate that nobody has verified."""


@dataclass(frozen=True, slots=True)
class _Names:
    common: str | None
    alternative: tuple[str, ...]


def subject_name(peercert: PeerCertificate | None) -> str | None:
    """The client's name for logs and access rules: the common name, else the first alternative name with its kind.

    None where no name can be used: such a client is not to be taken for one without a certificate.
    """
    names = _names(peercert)
    return names.common or next(iter(names.alternative), None)


def is_allowed(peercert: PeerCertificate | None, patterns: Iterable[str]) -> bool:
    """Whether a verified certificate has a name that one of the patterns is for; without patterns all are let in.

    A bare pattern is for common names, one with `DNS:`, `URI:` or `email:` for alternative names of that kind only.
    """
    listed = tuple(patterns)
    if not listed:
        return bool(peercert)
    names = _names(peercert)
    return any(_fits(pattern, names) for pattern in listed)


def _fits(pattern: str, names: _Names) -> bool:
    kind, colon, rest = pattern.partition(":")
    if colon and kind in ALTERNATIVE_KINDS:
        wanted = f"{kind}:{rest.lower()}" if kind == "DNS" else pattern
        return any(covers(wanted, name) for name in names.alternative)
    return names.common is not None and covers(pattern, names.common)


def _names(peercert: PeerCertificate | None) -> _Names:
    if not peercert:
        return _Names(None, ())
    common = [value for part in peercert.get("subject", ()) for key, value in part if key == "commonName"]
    # Several common names would let each reader pick another one.
    only = common[0] if len(common) == 1 and _is_plain(common[0]) and not _is_taken(common[0]) else None
    return _Names(only, tuple(_alternative(peercert.get("subjectAltName", ()))))


def _alternative(entries: Iterable[tuple[str, object]]) -> Iterator[str]:
    for kind, value in entries:
        if kind in ALTERNATIVE_KINDS and _is_plain(value):
            yield f"{kind}:{str(value).lower() if kind == 'DNS' else value}"


def _is_plain(value: object) -> bool:
    """Whether it is printable ASCII without spaces at its ends: all else has been used to look like another name."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LIMIT:
        return False
    return value.isascii() and value.isprintable() and value == value.strip()


def _is_taken(common: str) -> bool:
    """Whether a common name would be read as something else: a client without a name, or an alternative name."""
    return common == ANONYMOUS_NAME or common.partition(":")[0] in ALTERNATIVE_KINDS


RETRY_AFTER = 1.0
"""Seconds after which a client comes again whose password could not be checked."""
_ASKED = "this listener serves the users that it knows: send user and password"


class LoginMethod(Protocol):
    """One way in which a client can be known."""

    async def name(self, request: web.BaseRequest) -> str | None:
        """The client's name; None where it has not tried this way. Raises Unauthorized and Denied."""


class Passwords:
    """`basic`: user and password of the htpasswd file."""

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
        if not await self._is_right(login, request.remote or ""):
            raise Unauthorized("user or password is wrong", challenge=BASIC_CHALLENGE)
        return login.username

    async def _is_right(self, login: Login, address: str) -> bool:
        if login.kind is not LoginKind.PASSWORD:
            return False
        try:
            return await self._users.check(login.username, login.secret, address)
        except TooManyChecks as error:
            raise TooManyRequests(str(error), retry_after=RETRY_AFTER) from None


class Certificates:
    """`certificate`: a certificate of the listener's CA, with one of the names that are allowed."""

    def __init__(self, subjects: tuple[str, ...]) -> None:
        self._subjects = subjects

    async def name(self, request: web.BaseRequest) -> str | None:
        """The certificate's name; None without a certificate."""
        found = _peer_certificate(request)
        if not found:
            return None
        name = subject_name(found)
        if name is None or not is_allowed(found, self._subjects):
            raise Denied(f"the certificate of {name or 'a client without a name'} is none of clients.subjects")
        return name


class KnownClients:
    """Clients that are known in one of several ways."""

    def __init__(self, ways: tuple[LoginMethod, ...], *, takes_passwords: bool) -> None:
        self._ways = ways
        self._takes_passwords = takes_passwords

    async def identify(self, request: web.BaseRequest, asked: RegistryRequest) -> Caller:  # noqa: ARG002 - all alike
        """The client; raises Unauthorized where it is not known, and Denied where it cannot become so."""
        for way in self._ways:
            name = await way.name(request)
            if name is not None:
                return Caller(name)
        if self._takes_passwords:
            raise Unauthorized(_ASKED, challenge=BASIC_CHALLENGE)
        raise Denied("this listener serves clients with a certificate, and none was shown")

    def permit(self, route: Route, asked: RegistryRequest) -> None:
        """Known clients pull with the proxy's credentials."""

    def refused(self, request: web.BaseRequest, asked: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """The refusal is of the proxy's credentials, or of a rule."""
        return error


def _peer_certificate(request: web.BaseRequest) -> dict[str, Any] | None:
    transport = request.transport
    certificate: dict[str, Any] | None = transport.get_extra_info("peercert") if transport is not None else None
    return certificate
