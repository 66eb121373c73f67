"""WWW-Authenticate challenges (RFC 9110, section 11.6), parsed leniently, as registries send them.

Nothing here raises: a malformed challenge is ignored. Registries send quoted commas, several challenges in one line or
in several lines, unknown schemes and truncated parameters.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_LINE_LIMIT = 8192
_CHALLENGES_LIMIT = 16
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's token, not a secret
_SCHEME = re.compile(rf"[\s,]*(?P<scheme>{_TOKEN})(?=[\s,]|$)(?!\s*=)\s*")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[\s,]|$)")
_PARAMETER = re.compile(rf'[\s,]*(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))\s*')

BEARER = "bearer"
BASIC = "basic"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: its scheme and its parameters, both with lower-case names."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        """The realm; in a Bearer challenge, the URL of the token server."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str | None:
        """The registry's name at the token server."""
        return self.parameters.get("service")

    @property
    def scope(self) -> str:
        """The scopes, separated by spaces; empty if the challenge names none."""
        return self.parameters.get("scope", "")

    @property
    def error(self) -> str | None:
        """Why the registry rejected the credentials that were sent."""
        return self.parameters.get("error")


def parse_challenges(lines: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of all WWW-Authenticate lines; parsing of a line stops at its first malformed part."""
    challenges: list[Challenge] = []
    for line in lines:
        challenges += _parse_line(line[:_LINE_LIMIT])
    return tuple(challenges[:_CHALLENGES_LIMIT])


def choose_challenge(challenges: Iterable[Challenge]) -> Challenge | None:
    """The challenge to answer: the first Bearer with a realm, else the first Basic."""
    usable = [item for item in challenges if item.scheme == BASIC or (item.scheme == BEARER and item.realm)]
    return min(usable, key=lambda item: item.scheme != BEARER, default=None)


def _parse_line(line: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    position = 0
    while position < len(line) and len(challenges) < _CHALLENGES_LIMIT:
        if match := _SCHEME.match(line, position):
            challenges.append(Challenge(match["scheme"].lower()))
            if challenges[-1].scheme not in (BEARER, BASIC):  # such as Negotiate, which sends one value without a name
                match = _TOKEN68.match(line, match.end()) or match
        elif challenges and (match := _PARAMETER.match(line, position)):
            value = match["plain"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
            challenges[-1].parameters.setdefault(match["name"].lower(), value)
        else:
            break
        position = match.end()
    return challenges
