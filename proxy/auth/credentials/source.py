"""Something that answers: which credentials are there for a repository of a host?"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeGuard

from proxy.config.address import Origin

_SURROGATE = re.compile("[\ud800-\udfff]")


class CredentialError(Exception):
    """A credential is configured and cannot be had: a file is missing, a helper fails. The message holds no secret."""


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be sent: JSON can hold halves of surrogate pairs, which cannot."""
    return isinstance(value, str) and _SURROGATE.search(value) is None


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

    @property
    def identity(self) -> str:
        """A name for this very credential, by which grants are kept apart; another password is another identity."""
        parts = (self.kind, self.username, self.secret)
        digest = hashlib.sha256()
        for part in parts:
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        return digest.hexdigest()


ANONYMOUS = Login("no credentials", LoginKind.ANONYMOUS)


class CredentialSource(Protocol):
    """A place where credentials come from."""

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        """The credentials for an upstream repository, the best first; raises CredentialError."""
