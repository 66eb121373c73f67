"""Something that answers: which credentials are there for a repository of a host?"""

import re
from collections.abc import Sequence
from typing import Protocol, TypeGuard

from proxy.config.address import Origin
from proxy.oci.login import Login

_SURROGATE = re.compile("[\ud800-\udfff]")


class CredentialError(Exception):
    """A credential is configured and cannot be had: a file is missing, a helper fails. The message holds no secret."""


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be sent: JSON can hold halves of surrogate pairs, which cannot."""
    return isinstance(value, str) and _SURROGATE.search(value) is None


class CredentialSource(Protocol):
    """A place where credentials come from."""

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        """The credentials for an upstream repository, the best first; raises CredentialError."""
