"""A login as the token specification knows it: a user with a password, an identity token, or nobody."""

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
