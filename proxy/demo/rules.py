"""How strict a registry is, and who may pull from it."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from proxy.demo.record import Call


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
