"""Checks of clients: none, or the Authorization header, which is parsed strictly."""

import base64
import re
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from proxy.oci.errors import Denied, RegistryError, UpstreamUnavailable
from proxy.oci.login import ANONYMOUS, PROXY, Caller, Login, LoginKind
from proxy.oci.request import RegistryRequest
from proxy.routing.table import Route


class NoTokens(UpstreamUnavailable):
    """No token can be issued: there is no key to seal it."""


class ClientCheck(Protocol):
    """Identifies the client of a request."""

    async def identify(self, request: web.BaseRequest, pull: RegistryRequest) -> Caller:
        """The client; raises Unauthorized if it must authenticate."""

    def permit(self, route: Route, pull: RegistryRequest) -> None:
        """Check that the client's token covers this repository; raises Unauthorized."""

    def client_error(self, request: web.BaseRequest, pull: RegistryRequest, error: Denied) -> RegistryError:
        """The error to send to a client that the upstream or an access rule refused."""


class Everybody:
    """`none`: ignores credentials and never requests them (containerd then sends none)."""

    async def identify(self, request: web.BaseRequest, pull: RegistryRequest) -> Caller:  # noqa: ARG002 - unread
        """Always the proxy itself."""
        return PROXY

    def permit(self, route: Route, pull: RegistryRequest) -> None:
        """Permit every route."""

    def client_error(self, request: web.BaseRequest, pull: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """The error unchanged: an upstream refusal is never a 401 here."""
        return error


BASIC_CHALLENGE = 'Basic realm="scope-proxy", charset="UTF-8"'
"""The challenge that requests user name and password."""
AUTHORIZATION_LIMIT = 16 * 1024
"""Maximum characters of an Authorization header; the HTTP parser allows fewer."""
USERNAME_LIMIT = 1024
"""Maximum characters of a user name."""
SECRET_LIMIT = 16 * 1024
"""Maximum characters of a password or identity token."""
IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks an identity token
"""Docker's credential helpers return this user with an identity token; imagePullSecrets can contain it."""

_HEADER = re.compile(r"(?P<scheme>[A-Za-z]+) +(?P<value>[A-Za-z0-9._~+/-]+={0,2}) *")
_SECRET_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # Google's `_json_key` key files contain newlines


class CredentialInvalid(ValueError):
    """The credential of a client is malformed; the message quotes nothing of it."""


class OtherScheme(CredentialInvalid):
    """The header uses a different authentication scheme."""


def parse_basic(lines: Sequence[str]) -> Login:
    """The login in a request's Authorization headers; anonymous without one, or if user and password are empty.

    Raises CredentialInvalid; OtherScheme if it is not Basic.
    """
    value = _value(lines, "basic")
    if value is None:
        return ANONYMOUS
    try:
        text = base64.b64decode(value, validate=True).decode()
    except ValueError:  # not base64, or not UTF-8
        raise CredentialInvalid("the Authorization header is not valid base64 of user:password in UTF-8") from None
    username, colon, secret = text.partition(":")
    if not colon:
        raise CredentialInvalid("the Authorization header has no colon between user and password")
    return client_login(username, secret)


def parse_bearer(lines: Sequence[str]) -> str | None:
    """The token in the Authorization headers of a request; None without a header.

    Raises CredentialInvalid; OtherScheme if it is not Bearer.
    """
    return _value(lines, "bearer")


def client_login(username: str, secret: str) -> Login:
    """The login for a user name and a password; raises CredentialInvalid.

    Both empty: anonymous. No user (containerd) or the user `<token>` (docker): the secret is an identity token.
    """
    if len(username) > USERNAME_LIMIT or len(secret) > SECRET_LIMIT:
        raise CredentialInvalid(f"user or password is longer than {USERNAME_LIMIT} or {SECRET_LIMIT} characters")
    if not username.isprintable() or _SECRET_CONTROL.search(secret):
        raise CredentialInvalid("user or password contains control characters")
    if not username and not secret:
        return ANONYMOUS
    if username in ("", IDENTITY_TOKEN_USER):
        return identity_login(secret)
    return Login(username, LoginKind.PASSWORD, username, secret)


def identity_login(token: str) -> Login:
    """The login for an identity token; raises CredentialInvalid."""
    if not token or len(token) > SECRET_LIMIT or not token.isprintable():
        raise CredentialInvalid(f"the identity token must have 1 to {SECRET_LIMIT} printable characters")
    return Login(LoginKind.IDENTITY_TOKEN.value, LoginKind.IDENTITY_TOKEN, "", token)


def _value(lines: Sequence[str], scheme: str) -> str | None:
    if not lines:
        return None
    if len(lines) > 1:
        raise CredentialInvalid("the request has more than one Authorization header")
    match = _HEADER.fullmatch(lines[0]) if len(lines[0]) <= AUTHORIZATION_LIMIT else None
    if match is None:
        raise CredentialInvalid("the Authorization header is malformed")
    if match["scheme"].lower() != scheme:
        raise OtherScheme(f"the scheme of the Authorization header is not {scheme.capitalize()}")
    return match["value"]
