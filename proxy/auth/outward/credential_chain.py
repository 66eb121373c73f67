"""All credential sources in order: the host's configured credentials, then the Docker config files."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cachetools import LRUCache

from proxy.auth.outward.credentials import CredentialError, CredentialSource, DockerConfigSource, HelperSource
from proxy.config.address import Origin
from proxy.config.credentials import SecretError, SecretReader, credential_name, credentials_for
from proxy.config.model import Config, Credential
from proxy.oci.login import ANONYMOUS, Login, LoginKind

REPOSITORIES_LIMIT = 4096
"""Most (host, repository) pairs whose credentials are cached."""


def _new_cache() -> LRUCache[tuple[Origin, str], Sequence[Credential]]:
    return LRUCache(REPOSITORIES_LIMIT)


@dataclass(frozen=True, slots=True)
class StaticSource:
    """The `credentials` lists of `hosts`."""

    config: Config
    secrets: SecretReader
    helpers: HelperSource
    docker_configs: dict[str, DockerConfigSource]
    """By the path of the file, as written in the configuration."""
    _chosen: LRUCache[tuple[Origin, str], Sequence[Credential]] = field(
        init=False, repr=False, compare=False, default_factory=_new_cache
    )
    """The credentials for a repository; they depend only on the configuration."""

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        """The host's credentials for a repository, the longest `repositories` match first; raises CredentialError."""
        found: list[Login] = []
        for item in self._credentials(origin, repository):
            found += await self._logins(item, origin, repository)
        return found

    def _credentials(self, origin: Origin, repository: str) -> Sequence[Credential]:
        items: Sequence[Credential] | None = self._chosen.get((origin, repository))
        if items is None:
            items = self._chosen[origin, repository] = credentials_for(self.config, origin, repository)
        return items

    async def _logins(self, item: Credential, origin: Origin, repository: str) -> Sequence[Login]:
        if item.helper is not None:
            return await self.helpers.logins(item.helper, origin)
        if item.docker_config_file is not None:
            return await self.docker_configs[item.docker_config_file].logins(origin, repository)
        return [await asyncio.to_thread(self._login, item, origin)]

    def _login(self, item: Credential, origin: Origin) -> Login:
        try:
            secret = self.secrets.read(item)
        except SecretError as error:
            raise CredentialError(f"hosts.{origin.authority}.credentials: {error}") from None
        if secret is None:
            raise CredentialError(f"hosts.{origin.authority}.credentials: no secret is configured")
        kind = LoginKind.IDENTITY_TOKEN if item.username is None else LoginKind.PASSWORD
        return Login(credential_name(item), kind, item.username or "", secret.value)


LOGINS_LIMIT = 8
"""Most credentials that are tried for one request."""


@dataclass(frozen=True, slots=True)
class CredentialChain:
    """Collects the credentials of each source, in order."""

    sources: tuple[CredentialSource, ...]

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        """All credentials for an upstream repository; only `ANONYMOUS` if there are none.

        If credentials are configured, there is no anonymous fallback: a wrong password must cause an error.
        Raises CredentialError.
        """
        found: dict[str, Login] = {}
        for source in self.sources:
            for login in await source.logins(origin, repository):
                found.setdefault(login.identity, login)
        return tuple(found.values())[:LOGINS_LIMIT] or (ANONYMOUS,)
