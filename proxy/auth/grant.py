"""Grants: tokens with their expiry and what they were granted for."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from proxy.config.address import Origin
from proxy.oci.scope import Scope

DEFAULT_LIFE = 60.0
"""Seconds that a token lives whose server does not say (the token specification)."""
LONGEST_LIFE = 24 * 3600.0
"""Seconds that a token is used at the most, whatever its server says."""
REFRESH_SHARE = 0.2
"""A grant is renewed in the background in this last part of its life ..."""
REFRESH_SECONDS = 30.0
"""... or in its last so many seconds, whichever is shorter."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=:-]{1,16384}")


class TokenInvalid(Exception):
    """A token server answered with success and no usable token; the message never holds what it sent."""


@dataclass(frozen=True, slots=True)
class GrantKey:
    """What a grant is good for; grants are never shared between two different keys."""

    host: Origin
    realm: str
    service: str | None
    identity: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Grant:
    """A token; times are of the monotonic clock, in seconds."""

    token: str = field(repr=False)
    fetched_at: float
    expires_at: float

    @classmethod
    def parse(cls, answer: object, asked_at: float) -> Self:
        """Read the JSON of a token server; raises TokenInvalid.

        Life counts from when the token was asked for. `token` or `access_token` may hold it, the latter wins.
        """
        if not isinstance(answer, Mapping):
            raise TokenInvalid("the token server sent JSON that is no object")
        token = answer.get("access_token") or answer.get("token")
        if not isinstance(token, str):
            raise TokenInvalid("the token server sent neither token nor access_token")
        if not _TOKEN.fullmatch(token):
            raise TokenInvalid("the token server sent a token with characters that no token has, or too long a one")
        return cls(token, asked_at, asked_at + _life(answer.get("expires_in")))

    def limited(self, seconds: float) -> Self:
        """The same, used for so many seconds at the most."""
        return replace(self, expires_at=min(self.expires_at, self.fetched_at + seconds))

    @property
    def is_valid(self) -> bool:
        """Whether it has not expired."""
        return time.monotonic() < self.expires_at

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it in the background."""
        margin = min((self.expires_at - self.fetched_at) * REFRESH_SHARE, REFRESH_SECONDS)
        return time.monotonic() >= self.expires_at - margin


def _life(expires_in: Any) -> float:
    """Seconds of `expires_in`, which some servers leave out, send as text, or as 0."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        expires_in = int(expires_in[:10])
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not expires_in >= 1:
        return DEFAULT_LIFE
    return float(min(expires_in, LONGEST_LIFE))
