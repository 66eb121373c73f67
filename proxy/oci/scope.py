"""Scopes, and the two places in which they are normalized, to one for each repository and to `pull`.

Outward (`outward_scope`): whatever a challenge of an upstream names, one computed scope is asked for. Inward
(`inward_scopes`): whatever a client asks of our own token endpoint, names are mapped to what stands upstream, those
that come to the same are merged, and the rest is dropped. So no scope that a client writes reaches an upstream.
"""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Self, TypeVar

PULL = "pull"
REPOSITORY = "repository"
REPOSITORIES_LIMIT = 16
"""Repositories that one token of ours is for; a pull needs one, an unpatched node asks for two."""

_ALL_ACTIONS = "*"
_SCOPE_LIMIT = 4096
_SCOPES_LIMIT = 64
_SCOPE = re.compile(r"(?P<type>[a-z0-9]+(?:\([a-z0-9]+\))?):(?P<name>[!-~]+):(?P<actions>[a-z*]*(?:,[a-z*]*)*)")
_RESOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:/-]*")
"""A name that a registry can have for one repository: never `*`, nor anything that is more than a name."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope of the token specification: type, name, actions."""

    type: str
    name: str
    actions: frozenset[str]
    text: str = field(init=False, repr=False, compare=False)
    """`type:name:action,action`, actions sorted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.type}:{self.name}:{','.join(sorted(self.actions))}")

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
        return self.text


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
        name = names.pop() if len(names) == 1 else ""
        asked = Scope.pull(name) if _RESOURCE.fullmatch(name) else asked
    dropped = tuple(scope for scope in challenged if scope != asked)
    return OutwardScope(asked, kept=asked in challenged, dropped=dropped)


Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True, slots=True)
class InwardScopes(Generic[Place]):
    """What the scopes of a client's token request come to; the three numbers add up to the scopes that were read."""

    kept: tuple[Place, ...]
    """What the names were mapped to, each once, in the order in which they were asked for."""
    merged: int
    """Scopes that came to what another one had come to before."""
    dropped: int
    """Scopes that are none, are not for pulling a repository, map to nothing, or are too many."""


def inward_scopes(texts: Iterable[str], resolve: Callable[[str], Place | None]) -> InwardScopes[Place]:
    """The places to pull from that a client's scopes mean; nothing it may write is an error.

    `texts` are the values of all `scope` parameters, each with any number of scopes; the first 64 scopes are read and
    16 places kept. `*` asks for `pull` too, and every other action is left out. `resolve` maps a repository's name.
    """
    parts = islice((part for text in texts for part in text.split(maxsplit=_SCOPES_LIMIT)), _SCOPES_LIMIT)
    kept: dict[Place, None] = {}
    merged = dropped = 0
    for part in parts:
        name = _pulled(part)
        place = None if name is None else resolve(name)
        if place is None or (place not in kept and len(kept) == REPOSITORIES_LIMIT):
            dropped += 1
        elif place in kept:
            merged += 1
        else:
            kept[place] = None
    return InwardScopes(tuple(kept), merged, dropped)


def _pulled(text: str) -> str | None:
    """The repository that a scope asks to pull; None where it asks for something else."""
    scope = Scope.parse(text)
    if scope is None or scope.type != REPOSITORY or scope.actions.isdisjoint((PULL, _ALL_ACTIONS)):
        return None
    return scope.name
