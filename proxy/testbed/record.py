"""The requests that a server received: one frozen entry each, without secrets."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Kind = Literal["ping", "manifest", "blob", "tags", "referrers", "token", "object", "other"]

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the server reads it; what holds a secret stays out of its repr."""

    method: str
    path: str  # as sent, without the query
    query: tuple[tuple[str, str], ...]
    kind: Kind
    repository: str
    reference: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    form: tuple[tuple[str, str], ...] = field(repr=False)
    connection: int  # the same number on the same connection
    reused: bool  # an earlier request came on this connection

    def header(self, name: str) -> str:
        """The value of a header; several lines are joined, none is the empty string."""
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower())

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a parameter, of the form where one was posted, else of the query."""
        pairs = self.form if self.method == "POST" else self.query
        return tuple(value for key, value in pairs if key == name)

    def value(self, name: str) -> str:
        """The first value of a parameter, or the empty string."""
        return next(iter(self.values(name)), "")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and the status that it got."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    kind: Kind
    repository: str
    reference: str
    headers: Mapping[str, str] = field(repr=False)  # lower-case names, nothing secret
    scope_parameters: tuple[str, ...]  # exactly as sent: GET repeats them, POST joins them with spaces
    credential: str  # "anonymous", "basic NAME", "password NAME", "refresh-token", "bearer NUMBER"
    connection: int
    reused: bool
    status: int  # 0: cut before a status was sent

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every requested scope, in order."""
        return tuple(scope for parameter in self.scope_parameters for scope in parameter.split())


def seen(call: Call, credential: str, status: int) -> Seen:
    """The entry for a request; the secret headers stay behind."""
    names = dict.fromkeys(name.lower() for name, _ in call.headers if name.lower() not in _SECRET_HEADERS)
    return Seen(
        method=call.method,
        path=call.path,
        query=call.query,
        kind=call.kind,
        repository=call.repository,
        reference=call.reference,
        headers=MappingProxyType({name: call.header(name) for name in names}),
        scope_parameters=call.values("scope") if call.kind == "token" else (),
        credential=credential,
        connection=call.connection,
        reused=call.reused,
        status=status,
    )


class Record:
    """All requests of one server, in the order in which they were answered."""

    def __init__(self) -> None:
        self._entries: list[Seen] = []
        self._grown = asyncio.Event()

    def add(self, entry: Seen) -> None:
        """Keep one more entry and wake whoever waits for it."""
        self._entries.append(entry)
        self._grown.set()
        self._grown = asyncio.Event()

    def clear(self) -> None:
        """Forget everything so far."""
        self._entries.clear()

    def all(self) -> tuple[Seen, ...]:
        """Every entry."""
        return tuple(self._entries)

    def of(
        self,
        kind: Kind | None = None,
        method: str | None = None,
        repository: str | None = None,
        reference: str | None = None,
    ) -> tuple[Seen, ...]:
        """The entries that fit everything given."""
        wanted = {"kind": kind, "method": method, "repository": repository, "reference": reference}
        given = {name: value for name, value in wanted.items() if value is not None}
        return tuple(entry for entry in self._entries if all(getattr(entry, k) == v for k, v in given.items()))

    @property
    def tokens(self) -> tuple[Seen, ...]:
        """The token requests."""
        return self.of("token")

    @property
    def scopes(self) -> frozenset[str]:
        """Every scope that any token request held."""
        return frozenset(scope for entry in self.tokens for scope in entry.scopes)

    async def wait(self, count: int, kind: Kind | None = None, method: str | None = None) -> tuple[Seen, ...]:
        """The entries that fit, once there are at least `count`; the caller bounds the time."""
        while len(self.of(kind, method)) < count:
            await self._grown.wait()
        return self.of(kind, method)
