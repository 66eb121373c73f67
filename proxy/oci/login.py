"""A login as the token specification knows it, and who pulls, as far as routes and rights are concerned."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum


class LoginKind(StrEnum):
    """What the secret of a login is."""

    ANONYMOUS = "anonymous"
    PASSWORD = "password"  # noqa: S105 - a word, not a secret
    IDENTITY_TOKEN = "identity token"  # noqa: S105 - as above


@dataclass(frozen=True, slots=True)
class Login:
    """One way to log in, with its secret; `name` is what people see of it."""

    name: str
    kind: LoginKind
    username: str = ""
    secret: str = field(default="", repr=False)
    identity: str = field(init=False, repr=False, compare=False)
    """A name for this very credential, by which grants are kept apart; another password is another identity."""

    def __post_init__(self) -> None:
        parts = (self.kind, self.username, self.secret)
        digest = hashlib.sha256()
        for part in parts:
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        object.__setattr__(self, "identity", digest.hexdigest())


ANONYMOUS = Login("no credentials", LoginKind.ANONYMOUS)


ANONYMOUS_NAME = "anonymous"
"""The name of a client that has none."""


@dataclass(frozen=True, slots=True)
class ProofPolicy:
    """How long the upstream's yes to a client's own credential holds, in seconds."""

    age: float
    last_age: float
    """While the upstream cannot be asked; 0 for not at all."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A client: its name for people and access rules, and its own credential where that is used upstream."""

    name: str = ANONYMOUS_NAME
    login: Login | None = None
    """What the upstream judges; None where the proxy's own credentials are used."""
    proofs: ProofPolicy = ProofPolicy(60.0, 0.0)
    bound: frozenset[tuple[str, str]] | None = None
    """The registries with their upstream repositories that its token is for; None where it has none."""
    identity: str = field(init=False, repr=False, compare=False)
    """By which grants, proofs, flights and negative answers are kept apart.

    All who use the proxy's credentials are one; a client's own is never one with the same that is configured.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", "" if self.login is None else f"client {self.login.identity}")


PROXY = Caller()
"""A client that pulls with the credentials of the configuration."""
