"""Scopes, and the outward rule: exactly one, that of the repository which the upstream sees, for `pull`.

Scopes are normalized in two places. Outward, here: whatever a challenge names, one computed scope is asked for.
Inward (the token endpoint that faces nodes) comes with client authentication.
"""

import re
from dataclasses import dataclass
from typing import Self

PULL = "pull"
REPOSITORY = "repository"

_SCOPE_LIMIT = 4096
_SCOPES_LIMIT = 64
_SCOPE = re.compile(r"(?P<type>[a-z0-9]+(?:\([a-z0-9]+\))?):(?P<name>[!-~]+):(?P<actions>[a-z*]*(?:,[a-z*]*)*)")


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope of the token specification: type, name, actions."""

    type: str
    name: str
    actions: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one scope; None for what is none. The name may itself hold colons (`host:5000/app`)."""
        match = _SCOPE.fullmatch(text) if len(text) <= _SCOPE_LIMIT else None
        if match is None:
            return None
        actions = frozenset(action for action in match["actions"].split(",") if action)
        return cls(match["type"], match["name"], actions)

    @classmethod
    def pull(cls, repository: str) -> Self:
        """The scope of a pull of one repository."""
        return cls(REPOSITORY, repository, frozenset({PULL}))

    def __str__(self) -> str:
        """`type:name:action,action`, actions sorted."""
        return f"{self.type}:{self.name}:{','.join(sorted(self.actions))}"


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """The scopes of a space-separated list; what is none is left out, at most 64 are read."""
    parsed = (Scope.parse(part) for part in text.split(maxsplit=_SCOPES_LIMIT)[:_SCOPES_LIMIT])
    return tuple(scope for scope in parsed if scope is not None)


@dataclass(frozen=True, slots=True)
class OutwardScope:
    """The one scope to ask for, and what of the challenge was left out."""

    asked: Scope
    kept: bool
    """The challenge named this very scope, perhaps among others."""
    dropped: tuple[Scope, ...]
    """Scopes of the challenge that are not asked for."""


def outward_scope(repository: str, challenged: tuple[Scope, ...], *, from_challenge: bool = False) -> OutwardScope:
    """The scope for a pull of `repository`, which is the name that the upstream sees.

    With `from_challenge` exactly one repository scope of the challenge gives the name instead (registries with
    virtual paths); where the challenge names none, or several, the computed one stands.
    """
    asked = Scope.pull(repository)
    if from_challenge:
        names = {scope.name for scope in challenged if scope.type == REPOSITORY}
        asked = Scope.pull(names.pop()) if len(names) == 1 else asked
    dropped = tuple(scope for scope in challenged if scope != asked)
    return OutwardScope(asked, kept=asked in challenged, dropped=dropped)
