"""The strict token endpoint: who may pull, which repositories exist, and that every other scope is refused."""

import base64
import binascii
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from proxy.testbed.answer import Answer, error_answer, json_answer
from proxy.testbed.record import Call


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the registry; without `repositories` it may pull everything."""

    username: str
    password: str = field(repr=False)
    repositories: tuple[str, ...] = ()
    identity_token: str = field(default="", repr=False)  # accepted as refresh_token in a posted form

    def may_pull(self, repository: str) -> bool:
        """Whether the account may pull this repository."""
        return not self.repositories or repository in self.repositories


ANONYMOUS = Account("", "")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the registry and its token endpoint accept."""

    refuse: int | None = 404  # status for a token request with a scope that is not granted; None: grant the rest
    dialect: Literal["bearer", "basic", "none"] = "bearer"
    accounts: tuple[Account, ...] = ()
    anonymous: bool | None = None  # None: only while there are no accounts
    post: bool = True  # False: the token endpoint answers 405 to POST
    expires_in: int | None = 300  # seconds; None leaves the field out (60 s then)
    fields: tuple[str, ...] = ("token", "access_token")  # where the token stands in the answer
    service: str = "strict-registry"
    realm: str = ""  # empty: /token on the registry's own origin
    referrers: bool = True  # False: the endpoint does not exist

    @property
    def open_to_all(self) -> bool:
        """Whether somebody without credentials may pull."""
        return not self.accounts if self.anonymous is None else self.anonymous


def basic_credential(call: Call) -> tuple[str, str] | None:
    """User name and password of a Basic header, or None."""
    scheme, _, text = call.header("Authorization").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return username, password


def find_account(call: Call, accounts: Iterable[Account]) -> Account | None:
    """The account whose credential the request carries, by Basic, by posted password or by identity token."""
    name_and_password = basic_credential(call) or (call.value("username"), call.value("password"))
    identity_token = call.value("refresh_token")
    for account in accounts:
        if identity_token and identity_token == account.identity_token:
            return account
        if name_and_password == (account.username, account.password):
            return account
    return None


def presents_credential(call: Call) -> bool:
    """Whether the request tries to prove who it is."""
    return bool(call.header("Authorization") or call.value("password") or call.value("refresh_token"))


DEFAULT_LIFE = 60
"""Seconds that a token lives when the answer does not say (distribution's token specification)."""

_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN"}


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """What a token allows, and until when."""

    number: int  # 1 for the first token
    scopes: frozenset[str]
    expires: float  # by the issuer's clock, seconds


class TokenIssuer:
    """Judges token requests by plain comparison of strings and remembers what it granted."""

    def __init__(
        self,
        rules: Rules,
        repositories: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self._repositories = repositories
        self._clock = clock
        self._grants: dict[str, IssuedToken] = {}

    def answer(self, call: Call) -> Answer:
        """The answer to a token request."""
        if call.method == "POST" and not self.rules.post:
            return error_answer(405, "UNSUPPORTED", "the token endpoint takes GET only", [("Allow", "GET")])
        if call.method not in {"GET", "POST"}:
            return error_answer(405, "UNSUPPORTED", "the token endpoint takes GET and POST", [("Allow", "GET, POST")])
        account = self._account(call)
        if account is None:
            challenge = ("WWW-Authenticate", f'Basic realm="{self.rules.service}"')
            return error_answer(401, "UNAUTHORIZED", "authentication required", [challenge])
        return self._judge(call, account)

    def grant(self, token: str) -> IssuedToken | None:
        """What a token allows now; None when it is unknown, revoked or expired."""
        grant = self._grants.get(token)
        return grant if grant is not None and self._clock() < grant.expires else None

    def revoke_all(self) -> None:
        """Make every token so far worthless."""
        self._grants = {token: IssuedToken(grant.number, grant.scopes, 0.0) for token, grant in self._grants.items()}

    def number(self, token: str) -> int:
        """The number of a token, even of one that is dead; 0 for one that was never issued."""
        grant = self._grants.get(token)
        return 0 if grant is None else grant.number

    def _account(self, call: Call) -> Account | None:
        if presents_credential(call):
            return find_account(call, self.rules.accounts)
        return ANONYMOUS if self.rules.open_to_all else None

    def _judge(self, call: Call, account: Account) -> Answer:
        requested = [scope for parameter in call.values("scope") for scope in parameter.split(" ") if scope]
        good = {f"repository:{name}:pull" for name in self._repositories() if account.may_pull(name)}
        refused = [scope for scope in requested if scope not in good]
        if refused and self.rules.refuse is not None:
            code = _CODES.get(self.rules.refuse, "UNKNOWN")
            return error_answer(self.rules.refuse, code, f"no such scope here: {' '.join(refused)}")
        return self._issue(frozenset(requested) & good)

    def _issue(self, scopes: frozenset[str]) -> Answer:
        token = secrets.token_urlsafe(24)
        life = DEFAULT_LIFE if self.rules.expires_in is None else self.rules.expires_in
        self._grants[token] = IssuedToken(len(self._grants) + 1, scopes, self._clock() + life)
        document: dict[str, object] = dict.fromkeys(self.rules.fields, token)
        if self.rules.expires_in is not None:
            document["expires_in"] = self.rules.expires_in
        return json_answer(200, document)
