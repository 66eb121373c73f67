"""How much clients may have of this process at one time: connections, requests, memory.

A client is an address (`transport/limits.py`). One that is alone may have everything; when a limit is reached, the
client that has the most loses to those that have less.
"""

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from proxy.config.model import Limits
from proxy.server.listener.held_bodies import BODIES_LIMIT, RETRY_AFTER, HeldBodies, Overloaded
from proxy.server.listener.unread import Taken
from proxy.transport.limits import FairQueue

UNANSWERED_LIMIT = 32 * 1024 * 1024
"""Bytes of memory for requests that are incomplete, or wait behind others, on all connections together."""
WAITING_SHARE = 16
"""One connection may wait for so many that are allowed."""
IDLE_TRIED = 8
"""Idle connections of one client that are tried for one that can be closed."""
UNREAD_LOOK_SECONDS = 2.0
"""Between two looks at how much clients read, while a connection waits for a place."""
LOOKED_AT = 4096
"""Connections of one client at one look, which takes some 2 us for each."""
QUIET_LOOK_SECONDS = 0.05
"""How often a stop looks whether it is quiet."""


class Connection(Protocol):
    """A connection of a client that holds a place."""

    client: str

    def close_if_idle(self) -> bool:
        """Give the place back and close, unless part of a response is still to be sent; whether it did."""

    def cut(self, reason: str) -> None:
        """Close at once."""

    def taken(self) -> Taken | None:
        """What the client has taken so far; None where nothing waits for it."""

    def leave(self) -> None:
        """Give the place back."""


class RequestLimit:
    """Bounds the requests being answered; beyond it come only those of clients that have fewer than their share.

    There are never more requests than connections, as each connection is answered one request at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._held: dict[str, int] = {}

    def enter(self, client: str) -> None:
        """Take a place, which has to be given back; raises TooManyRequests."""
        held = self._held.get(client, 0)
        if self._inside >= self._limit and held >= self._share(client):
            raise Overloaded("scope-proxy answers as many requests as it may at one time", retry_after=RETRY_AFTER)
        self._inside += 1
        self._held[client] = held + 1

    def leave(self, client: str) -> None:
        """Give the place back."""
        self._inside -= 1
        if self._held[client] > 1:
            self._held[client] -= 1
        else:
            del self._held[client]

    def _share(self, client: str) -> int:
        return max(self._limit // (len(self._held) + (client not in self._held)), 1)


class Activity:
    """Requests of nodes in flight, and when the last one came or ended, on the monotonic clock."""

    def __init__(self) -> None:
        self.is_ending = False
        """Whether requests that are still in flight are being cut, as the stop has waited long enough."""
        self._in_flight = 0
        self._last = time.monotonic()

    def __enter__(self) -> None:
        """Note a request, for the length of the block."""
        self._in_flight += 1
        self._last = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._in_flight -= 1
        self._last = time.monotonic()

    @property
    def reason_of_cut(self) -> str:
        """Why a request is cancelled."""
        return "shutdown" if self.is_ending else "client_gone"

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._in_flight

    async def quiet(self, seconds: float) -> None:
        """Wait until nothing is in flight, and nothing comes for so many seconds: a pull is many requests."""
        asked = time.monotonic()
        while self._in_flight or time.monotonic() - max(self._last, asked) < seconds:  # noqa: ASYNC110 - time has no event
            await asyncio.sleep(QUIET_LOOK_SECONDS)


class Admission(Protocol):
    """An accepted connection that has no place yet."""

    client: str

    def open(self) -> None:
        """Take a place at once: there is one."""

    def wait(self) -> None:
        """Wait for a place, and withdraw when that takes too long."""

    def refuse(self) -> None:
        """Close: there is none."""


class ConnectionLimit:
    """Bounds connections: beyond it a new one replaces an idle one, of the client that has the most.

    While there is none that it can replace, it waits in a queue, where those of clients that have fewer come first.
    Meanwhile clients that have more lose those on which they read less than `read_rate`, in bytes a second.
    """

    def __init__(self, limit: int, waiting: int, read_rate: float) -> None:
        self.limit = limit
        self._read_rate = read_rate
        self._taken: dict[Connection, Taken] = {}
        """What clients had taken at the last look."""
        self._looked = -math.inf
        """When that was."""
        self._count = 0
        self._held: dict[str, int] = {}
        self._busy: dict[str, OrderedDict[Connection, None]] = {}
        """The connections of each client on which something is being answered."""
        self._idle: dict[str, OrderedDict[Connection, None]] = {}
        """The connections of each client on which nothing is being answered, least recently used first."""
        self._waiting: FairQueue[Admission] = FairQueue(waiting)
        self._is_replacing = False

    def admit(self, arrival: Admission) -> None:
        """Open, queue or refuse a new connection."""
        if self._has_room(arrival.client):
            arrival.open()
            return
        refused = self._waiting.push(arrival, (arrival.client,))
        if refused is not arrival:
            arrival.wait()
        if refused is not None:
            refused.refuse()

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of the places are taken."""
        return self._count > self.limit // 2

    def withdraw(self, arrival: Admission) -> None:
        """Take a waiting connection out of the queue."""
        self._waiting.remove(arrival)

    def enter(self, connection: Connection) -> None:
        """Take a place; it must be given back."""
        self._count += 1
        self._held[connection.client] = self._held.get(connection.client, 0) + 1
        self._busy.setdefault(connection.client, OrderedDict())
        self._idle.setdefault(connection.client, OrderedDict())[connection] = None

    def leave(self, connection: Connection) -> None:
        """Give the place back."""
        client = connection.client
        self._count -= 1
        self._held[client] -= 1
        self._idle[client].pop(connection, None)
        self._busy[client].pop(connection, None)
        self._taken.pop(connection, None)
        if not self._held[client]:
            del self._held[client], self._idle[client], self._busy[client]
        self._serve()

    def set_busy(self, connection: Connection) -> None:
        """A request is being answered."""
        self._idle[connection.client].pop(connection, None)
        self._busy[connection.client][connection] = None

    def set_idle(self, connection: Connection) -> None:
        """The request has been answered."""
        self._busy[connection.client].pop(connection, None)
        self._idle[connection.client][connection] = None
        self._serve()

    def cut_unread(self, now: float) -> None:
        """Cut a connection for each that waits, of the client that has the most, where it has hardly read since before.

        The longer nothing could be sent to it, the sooner. To be called every 2 s while connections wait, and at the
        beginning; `now` is in seconds. Listeners share the limit: a look that comes too early is none.
        """
        passed = now - self._looked
        if passed < UNREAD_LOOK_SECONDS / 2:
            return
        before = self._taken if passed < UNREAD_LOOK_SECONDS * 2 else {}
        self._taken, self._looked = {}, now
        most = self._most(self._waiting.next_client(self._held))
        if most is None:
            return
        unread = []
        for connection in tuple(islice(chain(self._busy[most], self._idle[most]), LOOKED_AT)):
            taken = connection.taken()
            if taken is not None:
                self._taken[connection] = taken
            known = before.get(connection)
            if taken is not None and known is not None and taken.total - known.total < self._read_rate * passed:
                unread.append((taken.quiet, connection))
            elif (taken is None or known is not None) and connection in self._busy[most]:
                self._busy[most].move_to_end(connection)  # where there are more, the others have their turn
        for _, connection in sorted(unread, key=lambda found: -found[0]):
            if self._most(self._waiting.next_client(self._held)) != most:
                return
            connection.leave()
            connection.cut("unread")

    def _most(self, client: str | None) -> str | None:
        """The client that has the most, if it still has more than this one when each has lost and got a place."""
        if client is None:
            return None
        most = max(self._held, key=self._held.__getitem__, default=None)
        return most if most is not None and self._held[most] > self._held.get(client, 0) + 1 else None

    def _serve(self) -> None:
        """Open waiting connections, as far as there are places."""
        if self._is_replacing or not self._waiting.size:
            return
        while (client := self._waiting.next_client(self._held)) is not None and self._has_room(client):
            found = self._waiting.pop(self._held)
            if found is not None:
                found[0].open()

    def _has_room(self, client: str) -> bool:
        """Whether a client may have one more connection; closes an idle one for it if need be.

        That is one of the client that has the most, if it still has as many as this one then; else one of its own.
        """
        if self._count < self.limit:
            return True
        own = self._held.get(client, 0)
        others = (name for name, count in self._held.items() if count > own + 1 or name == client)
        most = max((name for name in others if self._idle[name]), key=self._held.__getitem__, default=None)
        if most is None:
            return False
        self._is_replacing = True  # the place is for this client, not for one that waits
        for connection in tuple(islice(self._idle[most], IDLE_TRIED)):
            if connection.close_if_idle():
                break
            self._idle[most].move_to_end(connection)
        self._is_replacing = False
        return self._count < self.limit


class UnansweredBytes:
    """Bounds the memory of unanswered requests: beyond it the client that uses the most loses its oldest connection."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._held: dict[str, OrderedDict[Connection, int]] = {}
        self._sums: dict[str, int] = {}

    def add(self, connection: Connection, size: int) -> None:
        """Count bytes until they are forgotten; cuts connections while there are too many."""
        held = self._held.setdefault(connection.client, OrderedDict())
        held[connection] = held.get(connection, 0) + size
        self._sums[connection.client] = self._sums.get(connection.client, 0) + size
        self._total += size
        while self._total > self._limit:
            most = max(self._sums, key=self._sums.__getitem__)
            oldest = next(iter(self._held[most]))
            self.forget(oldest)
            oldest.cut("heads")

    def forget(self, connection: Connection) -> None:
        """Stop counting the bytes of a connection."""
        held = self._held.get(connection.client)
        size = held.pop(connection, 0) if held is not None else 0
        self._total -= size
        self._sums[connection.client] = self._sums.get(connection.client, 0) - size
        if not held:
            self._held.pop(connection.client, None)
            del self._sums[connection.client]


@dataclass(frozen=True, slots=True)
class Gates:
    """The bounds of one process, for all its listeners."""

    connections: ConnectionLimit
    requests: RequestLimit
    unanswered: UnansweredBytes
    bodies: HeldBodies

    @classmethod
    def of(cls, limits: Limits, connections: int) -> "Gates":
        """The bounds of a configuration, for so many connections.

        An eighth of them is never answered at one time, so that there are idle ones to replace.
        """
        requests = min(limits.requests, connections * 7 // 8)
        return cls(
            ConnectionLimit(connections, max(connections // WAITING_SHARE, 1), limits.min_read_rate),
            RequestLimit(requests),
            UnansweredBytes(UNANSWERED_LIMIT),
            HeldBodies(BODIES_LIMIT),
        )
