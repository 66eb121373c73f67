"""Logins at a registry or token server, and the client on whose behalf scope-proxy pulls."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class LoginKind(StrEnum):
    """The type of a login's secret."""

    ANONYMOUS = "anonymous"
    PASSWORD = "password"  # noqa: S105 - a word, not a secret
    IDENTITY_TOKEN = "identity token"  # noqa: S105 - as above


@dataclass(frozen=True, slots=True)
class Login:
    """One credential with its secret; `name` is for people and never secret."""

    name: str
    kind: LoginKind
    username: str = ""
    secret: str = field(default="", repr=False)
    identity: str = field(init=False, repr=False, compare=False)
    """A digest of the credential that keeps grants separate; another password gives another identity."""

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        for part in (self.kind, self.username, self.secret):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        object.__setattr__(self, "identity", digest.hexdigest())


ANONYMOUS = Login("no credentials", LoginKind.ANONYMOUS)


ANONYMOUS_NAME = "anonymous"
"""The name of a client that did not authenticate."""


@dataclass(frozen=True, slots=True)
class ProofPolicy:
    """How long scope-proxy trusts the upstream's acceptance of a client's own credential, in seconds."""

    age: float
    last_age: float
    """The lifetime while the upstream is unavailable; 0 disables it."""


AuthMethod = Literal["none", "basic", "certificate", "upstream", "token"]
"""How a client authenticated: `upstream` with its own credential for the registry, `token` with a token from `/token`
that contains such a credential."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A client: its name for people and access rules, and its own credential if that is used upstream."""

    name: str = ANONYMOUS_NAME
    login: Login | None = None
    """The credential that is sent upstream; None if scope-proxy's own credentials are used."""
    proofs: ProofPolicy = ProofPolicy(60.0, 0.0)
    bound: frozenset[tuple[str, str]] | None = None
    """The (registry, upstream repository) pairs that its token is valid for; None if it has no token."""
    method: AuthMethod = field(default="none", compare=False)
    identity: str = field(init=False, repr=False, compare=False)
    """Keeps grants, proofs, flights and cached errors of different credentials separate.

    Empty for all clients that use scope-proxy's credentials. A client's own credential never shares an identity with a
    configured one, even if they are equal.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", "" if self.login is None else f"client {self.login.identity}")


PROXY = Caller()
"""A client that pulls with the configured credentials."""
