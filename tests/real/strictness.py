"""What a token server of each make answers to the requested scopes."""

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


class Mode(enum.StrEnum):
    """The token server's behaviour, named by the status of its refusal."""

    ARTIFACTORY = "404"
    SWR = "401"
    GHCR = "403"
    HARBOR = "500"  # only for a repository without a project that it knows; the rest is granted as far as known
    TOLERANT = "tolerant"


STRICT_MODES = (Mode.ARTIFACTORY, Mode.SWR, Mode.GHCR, Mode.HARBOR)


@dataclass(frozen=True, slots=True)
class Scope:
    """One resource scope, `repository:<name>:<actions>`."""

    kind: str
    name: str
    actions: tuple[str, ...]

    def granting(self, actions: Sequence[str]) -> dict[str, object]:
        """The entry of the token's `access` claim."""
        return {"type": self.kind, "name": self.name, "actions": list(actions)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status of the answer and, with 200, what the token grants."""

    status: int
    access: list[dict[str, object]] = field(default_factory=list)


def parse(text: str) -> Scope:
    """Read one scope; what is no scope gets an empty name, which no server knows."""
    kind, _, rest = text.partition(":")
    name, _, actions = rest.rpartition(":")
    return Scope(kind, name, tuple(actions.split(",")))


def judge(mode: Mode, scopes: Sequence[Scope], repositories: Collection[str]) -> Verdict:
    """Decide on one token request of a user who may pull `repositories`."""
    if any(_refused(mode, scope, repositories) for scope in scopes):
        return Verdict(int(mode.value))
    known = [scope for scope in scopes if scope.name in repositories and "pull" in scope.actions]
    return Verdict(200, [scope.granting(["pull"]) for scope in known])


def _refused(mode: Mode, scope: Scope, repositories: Collection[str]) -> bool:
    if mode is Mode.TOLERANT:
        return False
    if mode is Mode.HARBOR:
        return not _has_project(scope.name, repositories)
    return scope.kind != "repository" or scope.name not in repositories or scope.actions != ("pull",)


def _has_project(name: str, repositories: Collection[str]) -> bool:
    project, slash, _ = name.partition("/")
    return bool(slash) and any(known.startswith(f"{project}/") for known in repositories)
