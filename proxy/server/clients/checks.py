"""Who pulls from a listener: everybody, or whoever an Authorization header names; read strictly."""

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
    """No token can be given out here, since there is no key to seal it with."""


class ClientCheck(Protocol):
    """Tells who sends a request."""

    async def identify(self, request: web.BaseRequest, asked: RegistryRequest) -> Caller:
        """The client; raises Unauthorized where it has to say who it is."""

    def permit(self, route: Route, asked: RegistryRequest) -> None:
        """Make sure that what the client has shown is for this repository; raises Unauthorized."""

    def refused(self, request: web.BaseRequest, asked: RegistryRequest, error: Denied) -> RegistryError:
        """The error for a client that the upstream, or a rule, has refused."""


class Everybody:
    """`none`: credentials are dropped unread, and nobody is ever asked for any (containerd then sends none)."""

    async def identify(self, request: web.BaseRequest, asked: RegistryRequest) -> Caller:  # noqa: ARG002 - unread
        """Whoever it is."""
        return PROXY

    def permit(self, route: Route, asked: RegistryRequest) -> None:
        """Everything."""

    def refused(self, request: web.BaseRequest, asked: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """The upstream's refusal is never a 401 here."""
        return error


BASIC_CHALLENGE = 'Basic realm="scope-proxy", charset="UTF-8"'
"""What asks a client for user and password."""
AUTHORIZATION_LIMIT = 16 * 1024
"""Characters of an Authorization header; the server itself takes less."""
USERNAME_LIMIT = 1024
"""Characters of a user name."""
SECRET_LIMIT = 16 * 1024
"""Characters of a password or identity token."""
IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks an identity token
"""Docker's credential helpers give this user with an identity token, and image pull secrets made of them send it on."""

_HEADER = re.compile(r"(?P<scheme>[A-Za-z]+) +(?P<value>[A-Za-z0-9._~+/-]+={0,2}) *")
_SECRET_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # the key files of Google's `_json_key` have lines


class CredentialInvalid(ValueError):
    """What a client sent as its credential cannot be read; the message holds nothing of it."""


class OtherScheme(CredentialInvalid):
    """The header is of another scheme than the one that is taken here."""


def parse_basic(lines: Sequence[str]) -> Login:
    """The login of the Authorization headers of a request; anonymous without any, or with an empty user and password.

    Raises CredentialInvalid, and OtherScheme for what is not Basic.
    """
    value = _value(lines, "basic")
    if value is None:
        return ANONYMOUS
    try:
        text = base64.b64decode(value, validate=True).decode()
    except ValueError:  # no base64, or no UTF-8 in it
        raise CredentialInvalid("the Authorization header is not base64 of user:password in UTF-8") from None
    username, colon, secret = text.partition(":")
    if not colon:
        raise CredentialInvalid("the Authorization header holds no colon between user and password")
    return client_login(username, secret)


def parse_bearer(lines: Sequence[str]) -> str | None:
    """The token of the Authorization headers of a request; None without any.

    Raises CredentialInvalid, and OtherScheme for what is not Bearer.
    """
    return _value(lines, "bearer")


def client_login(username: str, secret: str) -> Login:
    """The login that a user name and a password mean; raises CredentialInvalid.

    Both empty is nobody. A secret alone, as containerd writes it, or of docker's user `<token>` is an identity token.
    """
    if len(username) > USERNAME_LIMIT or len(secret) > SECRET_LIMIT:
        raise CredentialInvalid(f"user or password is longer than {USERNAME_LIMIT} or {SECRET_LIMIT} characters")
    if not username.isprintable() or _SECRET_CONTROL.search(secret):
        raise CredentialInvalid("user or password holds control characters")
    if not username and not secret:
        return ANONYMOUS
    if username in ("", IDENTITY_TOKEN_USER):
        return identity_login(secret)
    return Login(username, LoginKind.PASSWORD, username, secret)


def identity_login(token: str) -> Login:
    """The login of an identity token; raises CredentialInvalid."""
    if not token or len(token) > SECRET_LIMIT or not token.isprintable():
        raise CredentialInvalid(f"the identity token is not 1 to {SECRET_LIMIT} printable characters")
    return Login(LoginKind.IDENTITY_TOKEN.value, LoginKind.IDENTITY_TOKEN, "", token)


def _value(lines: Sequence[str], scheme: str) -> str | None:
    if not lines:
        return None
    if len(lines) > 1:
        raise CredentialInvalid("there is more than one Authorization header")
    match = _HEADER.fullmatch(lines[0]) if len(lines[0]) <= AUTHORIZATION_LIMIT else None
    if match is None:
        raise CredentialInvalid("the Authorization header is malformed")
    if match["scheme"].lower() != scheme:
        raise OtherScheme(f"the Authorization header is not of the scheme {scheme.capitalize()}")
    return match["value"]
