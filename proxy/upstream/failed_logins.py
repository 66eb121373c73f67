"""Failed logins of clients: a password that is refused is passed on a few times, then not for a while.

The account behind it could be locked. Some registries answer 401 also to who may not pull a repository, so a credential
that has worked lately is never held back. An anonymous request guesses no password: none of it is counted.
"""

from cachetools import TTLCache

from proxy.auth.broker import Requester
from proxy.config.address import Origin
from proxy.oci.login import LoginKind

FAILED_LIMIT = 3
"""Refusals by 401 of one credential at one host ..."""
FAILED_SECONDS = 30.0
"""... within so many seconds, after which it is not tried there again until they are over."""
TRUST_SECONDS = 600.0
"""How long a credential that has worked is tried whatever is refused to it."""
REMEMBERED = 20_000
"""Most credentials of clients that are remembered."""

_Key = tuple[Origin, str]


class FailedLogins:
    """Counts them, for each host and credential."""

    def __init__(self) -> None:
        self._failed: TTLCache[_Key, tuple[int, str]] = TTLCache(REMEMBERED, FAILED_SECONDS)
        self._worked: TTLCache[_Key, bool] = TTLCache(REMEMBERED, TRUST_SECONDS)

    def refusal(self, asker: Requester) -> str | None:
        """What the credential was refused with, where it is not tried now; it names nothing that was asked for."""
        count, reason = self._failed.get(_key(asker), (0, ""))
        return reason if count >= FAILED_LIMIT and _is_counted(asker) else None

    def add(self, asker: Requester, reason: str) -> None:
        """The credential was refused."""
        key = _key(asker)
        if _is_counted(asker) and key not in self._worked:
            count, _ = self._failed.get(key, (0, ""))
            self._failed[key] = count + 1, reason

    def clear(self, asker: Requester) -> None:
        """The credential has worked."""
        if _is_counted(asker):
            self._worked[_key(asker)] = True
            self._failed.pop(_key(asker), None)


def _is_counted(asker: Requester) -> bool:
    """Whether a client has shown a credential."""
    return asker.is_client and asker.login.kind is not LoginKind.ANONYMOUS


def _key(asker: Requester) -> _Key:
    return asker.host, asker.identity
