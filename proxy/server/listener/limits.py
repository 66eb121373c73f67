"""Limits for clients of this process: connections, requests, memory.

A client is an address (`transport/limits.py`). A single client may use everything; at a limit, the client that uses
the most loses to those that use less.
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
from proxy.server.listener.unread import ClientProgress
from proxy.transport.limits import FairQueue

PENDING_LIMIT = 32 * 1024 * 1024
"""Bytes of memory for incomplete or queued requests on all connections."""
WAITING_SHARE = 16
"""Allowed connections per waiting connection."""
IDLE_TRIED = 8
"""Idle connections of one client that are checked for one that can be closed."""
SAMPLE_SECONDS = 2.0
"""Seconds between two samples of how much clients read, while a connection waits."""
CONNECTIONS_SAMPLED = 4096
"""Connections of one client per sample; each takes about 2 us."""
QUIET_POLL_SECONDS = 0.05
"""Seconds between two checks of `InFlight.quiet`."""


class Connection(Protocol):
    """An open connection of a client; it counts towards the limit until `leave`."""

    client: str

    def close_if_idle(self) -> bool:
        """Leave and close, unless part of a response is still unsent; returns whether it closed."""

    def cut(self, reason: str) -> None:
        """Close at once."""

    def progress(self) -> ClientProgress | None:
        """How much the client has received; None if nothing is unsent or unacknowledged."""

    def leave(self) -> None:
        """Stop counting."""


class RequestLimit:
    """Bounds concurrent requests; at the limit, only clients below their fair share may start one.

    There are never more requests than connections, because each connection handles one request at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._held: dict[str, int] = {}

    def enter(self, client: str) -> None:
        """Count a request, until `leave`; raises TooManyRequests."""
        held = self._held.get(client, 0)
        if self._inside >= self._limit and held >= self._share(client):
            raise Overloaded(
                "limits.requests is reached: scope-proxy handles no further requests now", retry_after=RETRY_AFTER
            )
        self._inside += 1
        self._held[client] = held + 1

    def leave(self, client: str) -> None:
        """Stop counting a request."""
        self._inside -= 1
        if self._held[client] > 1:
            self._held[client] -= 1
        else:
            del self._held[client]

    def _share(self, client: str) -> int:
        return max(self._limit // (len(self._held) + (client not in self._held)), 1)


class InFlight:
    """Requests of nodes in flight, and when the last one started or ended."""

    def __init__(self) -> None:
        self.is_ending = False
        """Whether remaining requests are being aborted, because the shutdown grace period is over."""
        self._count = 0
        self._changed_at = time.monotonic()

    def __enter__(self) -> None:
        """Count a request for the length of the block."""
        self._count += 1
        self._changed_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        self._changed_at = time.monotonic()

    @property
    def cut_reason(self) -> str:
        """Why a cancelled request is aborted."""
        return "shutdown" if self.is_ending else "client_gone"

    @property
    def count(self) -> int:
        """Requests in flight."""
        return self._count

    async def quiet(self, seconds: float) -> None:
        """Wait until no request has been in flight for `seconds`: a pull consists of many requests."""
        started = time.monotonic()
        while self._count or time.monotonic() - max(self._changed_at, started) < seconds:  # noqa: ASYNC110 - time has no event
            await asyncio.sleep(QUIET_POLL_SECONDS)


class Admission(Protocol):
    """An accepted connection that is not open yet."""

    client: str

    def open(self) -> None:
        """Open: there is room."""

    def wait(self) -> None:
        """Wait for room; withdraw after a timeout."""

    def refuse(self) -> None:
        """Close: there is no room."""


class ConnectionLimit:
    """Bounds connections: at the limit, a new one replaces an idle one of the client that has the most.

    Without an idle one it waits in a queue, in which clients with fewer connections come first. Meanwhile clients with
    more lose connections on which they read less than `read_rate` bytes per second.
    """

    def __init__(self, limit: int, waiting: int, read_rate: float, *, sampled: int = CONNECTIONS_SAMPLED) -> None:
        self.limit = limit
        self._sampled = sampled
        self._read_rate = read_rate
        self._samples: dict[Connection, ClientProgress] = {}
        """Progress at the last sample."""
        self._sampled_at = -math.inf
        self._count = 0
        self._held: dict[str, int] = {}
        self._busy: dict[str, OrderedDict[Connection, None]] = {}
        """The connections of each client that handle a request."""
        self._idle: dict[str, OrderedDict[Connection, None]] = {}
        """The connections of each client without a request, least recently used first."""
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
        """Whether more than half of the limit is used."""
        return self._count > self.limit // 2

    def withdraw(self, arrival: Admission) -> None:
        """Remove a waiting connection from the queue."""
        self._waiting.remove(arrival)

    def enter(self, connection: Connection) -> None:
        """Count a connection, until `leave`."""
        self._count += 1
        self._held[connection.client] = self._held.get(connection.client, 0) + 1
        self._busy.setdefault(connection.client, OrderedDict())
        self._idle.setdefault(connection.client, OrderedDict())[connection] = None

    def leave(self, connection: Connection) -> None:
        """Stop counting a connection; opens waiting ones."""
        client = connection.client
        self._count -= 1
        self._held[client] -= 1
        self._idle[client].pop(connection, None)
        self._busy[client].pop(connection, None)
        self._samples.pop(connection, None)
        if not self._held[client]:
            del self._held[client], self._idle[client], self._busy[client]
        self._serve()

    def set_busy(self, connection: Connection) -> None:
        """The connection handles a request."""
        self._idle[connection.client].pop(connection, None)
        self._busy[connection.client][connection] = None

    def set_idle(self, connection: Connection) -> None:
        """The connection has no request."""
        self._busy[connection.client].pop(connection, None)
        self._idle[connection.client][connection] = None
        self._serve()

    def cut_unread(self, now: float) -> None:
        """Cut unread connections of the client that has the most, one per waiting connection, the most stalled first.

        Unread: it read less than `read_rate` since the last sample. Call it when a connection starts to wait, then
        every `SAMPLE_SECONDS`; `now` is in seconds. Listeners share the limit: a call that is too early does nothing.
        """
        passed = now - self._sampled_at
        if passed < SAMPLE_SECONDS / 2:
            return
        before = self._samples if passed < SAMPLE_SECONDS * 2 else {}
        self._samples, self._sampled_at = {}, now
        most = self._most(self._waiting.next_client(self._held))
        if most is None:
            return
        unread = []
        for connection in tuple(islice(chain(self._busy[most], self._idle[most]), self._sampled)):
            progress = connection.progress()
            if progress is not None:
                self._samples[connection] = progress
            known = before.get(connection)
            if progress is not None and known is not None and progress.total - known.total < self._read_rate * passed:
                unread.append((progress.quiet, connection))
            elif (progress is None or known is not None) and connection in self._busy[most]:
                self._busy[most].move_to_end(connection)  # the next sample covers other connections first
        for _, connection in sorted(unread, key=lambda entry: -entry[0]):
            if self._most(self._waiting.next_client(self._held)) != most:
                return
            connection.leave()
            connection.cut("unread")

    def _most(self, client: str | None) -> str | None:
        """The client that has the most, if it still has more than this one after one connection changes hands."""
        if client is None:
            return None
        most = max(self._held, key=self._held.__getitem__, default=None)
        return most if most is not None and self._held[most] > self._held.get(client, 0) + 1 else None

    def _serve(self) -> None:
        """Open waiting connections while there is room."""
        if self._is_replacing or not self._waiting.size:
            return
        while (client := self._waiting.next_client(self._held)) is not None and self._has_room(client):
            popped = self._waiting.pop(self._held)
            if popped is not None:
                popped[0].open()

    def _has_room(self, client: str) -> bool:
        """Whether a client may have one more connection; closes an idle one for it if necessary.

        The idle one belongs to the client with the most connections if it keeps at least as many, else to this client.
        """
        if self._count < self.limit:
            return True
        own = self._held.get(client, 0)
        others = (name for name, count in self._held.items() if count > own + 1 or name == client)
        most = max((name for name in others if self._idle[name]), key=self._held.__getitem__, default=None)
        if most is None:
            return False
        self._is_replacing = True  # the room is for this client, not for a waiting one
        for connection in tuple(islice(self._idle[most], IDLE_TRIED)):
            if connection.close_if_idle():
                break
            self._idle[most].move_to_end(connection)
        self._is_replacing = False
        return self._count < self.limit


class PendingBytes:
    """Bounds the memory of incomplete and queued requests: at the limit, the client that uses most loses its oldest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._held: dict[str, OrderedDict[Connection, int]] = {}
        self._sums: dict[str, int] = {}

    def add(self, connection: Connection, size: int) -> None:
        """Count bytes of a connection until `forget`; cuts connections while the limit is exceeded."""
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
class ProcessLimits:
    """The limits of one process, shared by its listeners."""

    connections: ConnectionLimit
    requests: RequestLimit
    pending: PendingBytes
    bodies: HeldBodies

    @classmethod
    def of(cls, limits: Limits, connections: int, *, bodies: int = BODIES_LIMIT) -> "ProcessLimits":
        """The limits of a configuration, for a number of connections.

        At most 7/8 of the connections handle a request at one time, so that some are idle and can be replaced.
        """
        requests = min(limits.requests, connections * 7 // 8)
        return cls(
            ConnectionLimit(connections, max(connections // WAITING_SHARE, 1), limits.min_read_rate),
            RequestLimit(requests),
            PendingBytes(PENDING_LIMIT),
            HeldBodies(bodies),
        )
