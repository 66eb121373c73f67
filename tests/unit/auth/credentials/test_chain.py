from collections.abc import Sequence

import pytest

from proxy.auth.outward.credential_chain import LOGINS_LIMIT, CredentialChain
from proxy.auth.outward.credentials import CredentialError
from proxy.config.address import Origin
from proxy.oci.login import ANONYMOUS, Login, LoginKind

ORIGIN = Origin.parse("https://r.example")


class Source:
    def __init__(self, *passwords: str, error: str = "") -> None:
        self._passwords = passwords
        self._error = error

    async def logins(self, origin: Origin, repository: str) -> Sequence[Login]:
        if self._error:
            raise CredentialError(self._error)
        return [Login(f"{origin.host} {repository}", LoginKind.PASSWORD, "u", secret) for secret in self._passwords]


async def secrets(*sources: Source) -> list[str]:
    return [login.secret for login in await CredentialChain(sources).logins(ORIGIN, "a")]


async def test_sources_are_tried_in_order_and_duplicates_once() -> None:
    assert await secrets(Source("b", "a"), Source(), Source("a", "c")) == ["b", "a", "c"]


async def test_without_any_the_pull_is_anonymous() -> None:
    assert tuple(await CredentialChain((Source(),)).logins(ORIGIN, "a")) == (ANONYMOUS,)


async def test_there_is_a_limit() -> None:
    assert len(await secrets(Source(*map(str, range(50))))) == LOGINS_LIMIT


async def test_a_credential_that_cannot_be_had_is_no_reason_to_go_without() -> None:
    with pytest.raises(CredentialError, match="gone"):
        await secrets(Source("a"), Source(error="gone"))
