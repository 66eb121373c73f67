"""What a client asks of `/token`: GET with Basic, or the POST form of OAuth2, each read strictly.

How clients ask, as the sources of containerd, distribution and containers/image have it: containerd, also inside newer
docker, POSTs a password or, without a user, an identity token, with all scopes in one field. Older docker and skopeo
GET with Basic and POST an identity token, skopeo with a `scope` field each. Parameters of no use here are ignored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from proxy.oci.errors import NameInvalid, Unauthorized, Unsupported
from proxy.oci.login import ANONYMOUS, Login, LoginKind
from proxy.server.basic import (
    BASIC_CHALLENGE,
    CredentialInvalid,
    OtherScheme,
    client_login,
    identity_login,
    parse_basic,
)

FORM_LIMIT = 64 * 1024
"""Bytes of a form."""
FIELDS_LIMIT = 64
"""Fields of a form, and parameters of a query."""
FORM_TYPE = "application/x-www-form-urlencoded"

_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ClientTokenRequest:
    """A request for a token, as it arrived; `authorization` has all lines of that header."""

    method: str
    query: Pairs = ()
    authorization: Sequence[str] = field(default=(), repr=False)
    content_type: str = ""
    form: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TokenAsk:
    """What is asked: a token for whom, for which service, for which scopes (each text may hold several)."""

    login: Login
    service: str | None
    scopes: tuple[str, ...]


def parse_token_request(request: ClientTokenRequest) -> TokenAsk:
    """Read a request for a token.

    Raises Unsupported for another method, NameInvalid for what is malformed or ambiguous, and Unauthorized for an
    Authorization header that is not Basic.
    """
    try:
        if request.method == "GET":
            return _ask(parse_basic(request.authorization), _limited(request.query))
        if request.method == "POST":
            fields = _form(request)
            return _ask(_posted_login(fields, request.authorization), fields)
    except OtherScheme:
        reason = "a token is asked for with user and password: the Authorization header is not Basic"
        raise Unauthorized(reason, challenge=BASIC_CHALLENGE) from None
    except CredentialInvalid as error:
        raise NameInvalid(f"the request for a token is refused: {error}") from None
    raise Unsupported("a token is asked for with GET or POST")


def _ask(login: Login, fields: Pairs) -> TokenAsk:
    return TokenAsk(login, _one(fields, "service") or None, tuple(value for name, value in fields if name == "scope"))


def _posted_login(fields: Pairs, authorization: Sequence[str]) -> Login:
    username, password = _one(fields, "username"), _one(fields, "password")
    refresh, grant = _one(fields, "refresh_token"), _one(fields, "grant_type")
    if refresh and (username or password):
        raise NameInvalid("the form holds two credentials: a password and a refresh_token")
    if grant == "password" and not refresh:
        posted = client_login(username, password)
    elif grant == "refresh_token" and not (username or password):
        posted = identity_login(refresh) if refresh else ANONYMOUS
    elif grant or username or password or refresh:
        raise NameInvalid(
            "the form's grant_type is neither password nor refresh_token with the fields that belong to it"
        )
    else:
        posted = ANONYMOUS
    header = parse_basic(authorization)
    if LoginKind.ANONYMOUS not in (posted.kind, header.kind):
        raise NameInvalid("the request holds two credentials: in its form and in its Authorization header")
    return header if posted.kind is LoginKind.ANONYMOUS else posted


def _one(fields: Pairs, name: str) -> str:
    """The value of a field; empty where it is missing."""
    values = [value for key, value in fields if key == name]
    if len(values) > 1:
        raise NameInvalid(f"{name} is given more than once")
    return values[0] if values else ""


def _limited(fields: Pairs) -> Pairs:
    if len(fields) > FIELDS_LIMIT:
        raise NameInvalid(f"the request for a token has more than {FIELDS_LIMIT} fields")
    return fields


def _form(request: ClientTokenRequest) -> Pairs:
    if request.content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise NameInvalid(f"a token is asked for with a form of type {FORM_TYPE}")
    if len(request.form) > FORM_LIMIT:
        raise NameInvalid(f"the form is larger than {FORM_LIMIT >> 10} KiB")
    if not request.form:
        return ()
    try:
        text = request.form.decode()
        fields = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FIELDS_LIMIT
        )
    except ValueError:
        raise NameInvalid(f"the form is not name=value, in UTF-8, of at most {FIELDS_LIMIT} fields") from None
    if _BROKEN_PERCENT.search(text):
        raise NameInvalid("the form holds a percent sign that encodes nothing")
    return fields
