"""Scopes, and their normalization to one `pull` scope for each repository.

Outward (`outward_scope`): scope-proxy requests one computed scope, whatever scopes the upstream's challenge names.
Inward (`inward_scopes`): scopes that a client requests at `/token` are mapped to upstream repositories, duplicates are
merged, all others are dropped. No scope that a client sends reaches an upstream.
"""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Self, TypeVar

PULL = "pull"
REPOSITORY = "repository"
REPOSITORIES_LIMIT = 16
"""Most repositories for which one issued token is valid; a pull needs one, an unpatched node requests two."""

_ALL_ACTIONS = "*"
_SCOPE_LIMIT = 4096
_SCOPES_LIMIT = 64
_SCOPE = re.compile(r"(?P<type>[a-z0-9]+(?:\([a-z0-9]+\))?):(?P<name>[!-~]+):(?P<actions>[a-z*]*(?:,[a-z*]*)*)")
_RESOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:/-]*")
"""A valid name of one repository: never `*`, and nothing that could add another parameter or scope."""


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
        """Parse one scope; None if it is malformed. The name may itself have colons (`host:5000/app`)."""
        match = _SCOPE.fullmatch(text) if len(text) <= _SCOPE_LIMIT else None
        if match is None:
            return None
        actions = frozenset(action for action in match["actions"].split(",") if action)
        return cls(match["type"], match["name"], actions)

    @classmethod
    def pull(cls, repository: str) -> Self:
        """The scope to pull one repository."""
        return cls(REPOSITORY, repository, frozenset({PULL}))

    def __str__(self) -> str:
        """`type:name:action,action`, actions sorted."""
        return self.text


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Parse a space-separated list; malformed scopes are skipped, at most 64 are read."""
    parsed = (Scope.parse(part) for part in text.split(maxsplit=_SCOPES_LIMIT)[:_SCOPES_LIMIT])
    return tuple(scope for scope in parsed if scope is not None)


@dataclass(frozen=True, slots=True)
class OutwardScope:
    """The one scope to request, and how it differs from the challenge."""

    requested: Scope
    kept: bool
    """The challenge names the requested scope, possibly among others."""
    dropped: tuple[Scope, ...]
    """Scopes of the challenge that are not requested."""


def outward_scope(repository: str, challenged: tuple[Scope, ...], *, from_challenge: bool = False) -> OutwardScope:
    """The scope to request to pull `repository`, the name that the upstream sees.

    With `from_challenge` (registries with virtual paths), the challenge's repository scope gives the name instead; if
    the challenge names none or several repositories, the computed scope is requested.
    """
    requested = Scope.pull(repository)
    if from_challenge:
        names = {scope.name for scope in challenged if scope.type == REPOSITORY}
        name = names.pop() if len(names) == 1 else ""
        requested = Scope.pull(name) if _RESOURCE.fullmatch(name) else requested
    dropped = tuple(scope for scope in challenged if scope != requested)
    return OutwardScope(requested, kept=requested in challenged, dropped=dropped)


Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True, slots=True)
class InwardScopes(Generic[Place]):
    """The normalized scopes of a client's token request; kept, merged and dropped add up to the scopes read."""

    kept: tuple[Place, ...]
    """The resolved places without duplicates, in the requested order."""
    merged: int
    """Scopes whose place an earlier scope already had."""
    dropped: int
    """Scopes that are malformed, are not for pulling a repository, resolve to no place, or exceed the limit."""


def inward_scopes(texts: Iterable[str], resolve: Callable[[str], Place | None]) -> InwardScopes[Place]:
    """Resolve a client's scopes to the places to pull from; raises nothing, whatever the client sends.

    `texts` are the values of all `scope` parameters, each with any number of scopes; the first 64 scopes are read and
    at most 16 places kept. The action `*` includes `pull`; other actions are ignored. `resolve` maps a repository name.
    """
    parts = islice((part for text in texts for part in text.split(maxsplit=_SCOPES_LIMIT)), _SCOPES_LIMIT)
    kept: dict[Place, None] = {}
    merged = dropped = 0
    for part in parts:
        name = _repository_to_pull(part)
        place = None if name is None else resolve(name)
        if place is None or (place not in kept and len(kept) == REPOSITORIES_LIMIT):
            dropped += 1
        elif place in kept:
            merged += 1
        else:
            kept[place] = None
    return InwardScopes(tuple(kept), merged, dropped)


def _repository_to_pull(text: str) -> str | None:
    """The repository of a pull scope; None for any other scope."""
    scope = Scope.parse(text)
    if scope is None or scope.type != REPOSITORY or scope.actions.isdisjoint((PULL, _ALL_ACTIONS)):
        return None
    return scope.name
