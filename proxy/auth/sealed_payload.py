"""What a token of ours carries: the client's own login, and the repositories that it is for."""

import json
from dataclasses import dataclass

from proxy.oci.login import ANONYMOUS, Login, LoginKind
from proxy.routing.caller import ANONYMOUS_NAME


@dataclass(frozen=True, slots=True)
class Binding:
    """One repository that a token is for: the registry that the client names, and what stands upstream."""

    registry: str
    repository: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A token's content; the login is in it so that any worker or replica can go on with it. Times are Unix seconds."""

    login: Login
    bindings: tuple[Binding, ...]
    issued_at: int
    expires_at: int

    @property
    def name(self) -> str:
        """The client's name for people and access rules."""
        return ANONYMOUS_NAME if self.login.kind is LoginKind.ANONYMOUS else self.login.name


def encode(payload: Sealed) -> bytes:
    """The payload as compact JSON."""
    login = payload.login
    content = {
        "login": [login.kind.value, login.name, login.username, login.secret],
        "for": [[binding.registry, binding.repository] for binding in payload.bindings],
        "times": [payload.issued_at, payload.expires_at],
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def decode(content: bytes) -> Sealed:
    """The payload of some JSON; raises ValueError, whose message holds nothing of it."""
    try:
        value = json.loads(content)
        issued_at, expires_at = value["times"]
        bindings = tuple(Binding(_text(registry), _text(repository)) for registry, repository in value["for"])
        return Sealed(_login(value["login"]), bindings, _whole(issued_at), _whole(expires_at))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("the content is not that of a token") from None


def _login(value: list[object]) -> Login:
    kind, name, username, secret = map(_text, value)
    if LoginKind(kind) is LoginKind.ANONYMOUS:
        return ANONYMOUS
    return Login(name, LoginKind(kind), username, secret)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("no whole number")
    return value
