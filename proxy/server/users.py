"""Clients that the operator knows: users of an htpasswd file, client certificates, or either."""

from typing import Any, Protocol

from aiohttp import web

from proxy.auth.htpasswd import Htpasswd, TooManyChecks
from proxy.oci.errors import Denied, RegistryError, TooManyRequests, Unauthorized
from proxy.oci.login import Login, LoginKind
from proxy.oci.request import RegistryRequest
from proxy.routing.caller import Caller
from proxy.routing.table import Route
from proxy.server.basic import BASIC_CHALLENGE, CredentialInvalid, parse_basic
from proxy.server.subjects import is_allowed, subject_name

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
