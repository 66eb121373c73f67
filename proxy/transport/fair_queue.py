"""Fair queues: a client waits behind its own requests, not behind those of other clients."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Final, Generic, Self, TypeVar

CLIENT: Final[ContextVar[str]] = ContextVar("client", default="")
"""The client whose request is being answered, see `client_of`; empty for what the proxy does of its own accord."""
PREFIX = 64
"""Bits of an IPv6 address that identify a client: whoever has one such address has all with the same prefix."""

Item = TypeVar("Item")


def client_of(host: str) -> str:
    """The client that an address belongs to: the address of the connection counts, never a header."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> (128 - PREFIX) << (128 - PREFIX), PREFIX)))


class FairQueue(Generic[Item]):
    """A bounded queue of items that wait for clients: the client that holds the fewest places is next.

    Clients that hold equally many take turns; the items of one client keep their order. When the queue is full, a new
    item replaces the newest one of the client that has the most items in it, or is refused if that is its own client.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: dict[str, dict[Item, None]] = {}
        self.clients: dict[Item, list[str]] = {}
        """The clients that each item waits for; empty where nothing waits."""

    def __len__(self) -> int:
        return len(self.clients)

    def push(self, item: Item, clients: Iterable[str]) -> Item | None:
        """Add an item that waits for one client or several; returns the item that is refused, which may be itself."""
        waiting_for, refused = list(clients), None
        if len(self) >= self._limit:
            refused = self._surplus(waiting_for)
            if refused is None:
                return item
            self.remove(refused)
        for client in waiting_for:
            self.join(item, client)
        return refused

    def join(self, item: Item, client: str) -> None:
        """Have an item wait for one more client, behind the items of that client."""
        line = self._lines.setdefault(client, {})
        if item not in line:
            line[item] = None
            self.clients.setdefault(item, []).append(client)

    def next_client(self, held: Mapping[str, int]) -> str | None:
        """The client that is next, given how many places each one holds; None when the queue is empty."""
        return min(self._lines, key=lambda client: held.get(client, 0), default=None)

    def pop(self, held: Mapping[str, int]) -> tuple[Item, str] | None:
        """Take the next item out, with the client whose turn it is; None when the queue is empty."""
        client = self.next_client(held)
        if client is None:
            return None
        line = self._lines.pop(client)
        self._lines[client] = line  # now behind the other clients
        item = next(iter(line))
        self.remove(item)
        return item, client

    def remove(self, item: Item) -> None:
        """Take an item out, if it is in the queue."""
        for client in self.clients.pop(item, ()):
            line = self._lines[client]
            del line[item]
            if not line:
                del self._lines[client]

    def _surplus(self, clients: list[str]) -> Item | None:
        """The newest item of the client that has the most, if it has more than one of `clients` would have then."""
        most = max(self._lines.values(), key=len, default={})
        if len(most) <= min((len(self._lines.get(client, ())) for client in clients), default=0) + 1:
            return None
        return next((item for item in reversed(most) if len(self.clients[item]) == 1), None)


class Requesters:
    """The clients that wait for a shared piece of work: its requests wait for the turn of any of them."""

    def __init__(self, *clients: str) -> None:
        self._clients = dict.fromkeys(clients)
        self._watchers: dict[Callable[[str], None], None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._clients))

    @classmethod
    def current(cls) -> Self:
        """Those of the current task."""
        shared = _SHARED.get()
        return shared if isinstance(shared, cls) else cls(CLIENT.get())

    def bind(self) -> None:
        """Make them those of the current task."""
        _SHARED.set(self)

    def include(self, others: "Requesters") -> None:
        """Add the clients of other work that needs this one, and those that join it later."""
        if others is not self:
            for client in others:
                self._add(client)
            others.watch(self._add)

    def watch(self, joined: Callable[[str], None]) -> None:
        """Call a function with each client that joins from now on."""
        self._watchers[joined] = None

    @contextmanager
    def watched(self, joined: Callable[[str], None]) -> Iterator[None]:
        """Call a function with each client that joins during the block."""
        self.watch(joined)
        try:
            yield
        finally:
            del self._watchers[joined]

    def _add(self, client: str) -> None:
        if client not in self._clients:
            self._clients[client] = None
            for joined in tuple(self._watchers):
                joined(client)


_SHARED: ContextVar[Requesters | None] = ContextVar("requesters", default=None)
