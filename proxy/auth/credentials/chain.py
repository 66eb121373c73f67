"""All credential sources in order: the host's own list, then the Docker config files."""

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.auth.credentials.source import CredentialSource
from proxy.config.address import Origin
from proxy.oci.login import ANONYMOUS, Login

LOGINS_LIMIT = 8
"""Most credentials that are tried for one request."""


@dataclass(frozen=True, slots=True)
class CredentialChain:
    """Asks each source in turn."""

    sources: tuple[CredentialSource, ...]

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        """Every credential for an upstream repository; `ANONYMOUS` alone where there is none.

        Where credentials are configured and refused, we do not go on without any: a wrong password must be seen.
        Raises CredentialError.
        """
        found: dict[str, Login] = {}
        for source in self.sources:
            for login in await source.logins(origin, repository):
                found.setdefault(login.identity, login)
        return tuple(found.values())[:LOGINS_LIMIT] or (ANONYMOUS,)
