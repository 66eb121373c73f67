"""Turns for password checks: only a few run at one time, and client addresses share the turns fairly.

While several addresses wait, they take turns (round robin). Among the checks of one address, the user name with the
fewest recent failed logins from there goes first, so that password guesses for one name do not delay other users behind
the same address.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cachetools import TTLCache

from proxy.transport.limits import client_of

MAX_WAITING = 1024
"""Most waiting checks; beyond it, the newest check of the address with the most waiting checks is refused."""
FAILED_SECONDS = 60.0
"""How long the failed logins of an address and user name are counted after the last one."""
FAILED_REMEMBERED = 4096
"""Most pairs of address and user name whose failed logins are counted."""

_Turn = asyncio.Future[None]


class TooManyWaiting(Exception):
    """Too many checks wait for a turn."""


@dataclass(slots=True)
class _Line:
    """The waiting checks of one address, by user name, in the order in which the names get their turns."""

    names: dict[str, deque[_Turn]] = field(default_factory=dict)
    count: int = 0


class Turns:
    """Assigns turns; counted failed logins determine the order."""

    def __init__(self, at_once: int, clock: Callable[[], float], waiting_limit: int = MAX_WAITING) -> None:
        self._free = at_once
        self._waiting_limit = waiting_limit
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._waiting = 0
        self._failed: TTLCache[tuple[str, str], int] = TTLCache(FAILED_REMEMBERED, FAILED_SECONDS, clock)

    async def take(self, address: str, name: str) -> None:
        """Wait for a turn; raises TooManyWaiting. The caller must give the turn back."""
        if self._free and not self._lines:
            self._free -= 1
            return
        client, turn = client_of(address), asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(client, _Line())
        line.names.setdefault(name, deque()).append(turn)
        line.count += 1
        self._waiting += 1
        if self._waiting > self._waiting_limit:
            self._refuse_one()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()  # the turn arrived in the same iteration of the loop
            else:
                self._leave(client, name, turn)
            raise

    def give_back(self) -> None:
        """End a turn and give it to the next check."""
        while (turn := self._next()) is not None:
            if not turn.done():  # else its client is just disconnecting
                turn.set_result(None)
                return
        self._free += 1

    def count_failed(self, address: str, name: str) -> None:
        """Count a failed login."""
        key = client_of(address), name
        self._failed[key] = self._failed.get(key, 0) + 1

    def _next(self) -> _Turn | None:
        """The next check: addresses take turns, and so do the user names of each."""
        if not self._lines:
            return None
        client, line = next(iter(self._lines.items()))
        name = min(line.names, key=lambda name: self._failed.get((client, name), 0))
        turn = line.names[name].popleft()
        self._remove_one(client, name)
        if name in line.names:
            line.names[name] = line.names.pop(name)
        if client in self._lines:
            self._lines.move_to_end(client)
        return turn

    def _refuse_one(self) -> None:
        """Refuse the newest check of the address, and there of the user name, with the most waiting checks."""
        client, line = max(self._lines.items(), key=lambda item: item[1].count)
        name = max(line.names, key=lambda name: len(line.names[name]))
        turn = line.names[name].pop()
        self._remove_one(client, name)
        turn.set_exception(TooManyWaiting("too many password checks are waiting"))

    def _leave(self, client: str, name: str, turn: _Turn) -> None:
        """Remove the check of a client that disconnected."""
        line = self._lines.get(client)
        if line is not None and name in line.names:
            with suppress(ValueError):
                line.names[name].remove(turn)
                self._remove_one(client, name)

    def _remove_one(self, client: str, name: str) -> None:
        """Count one waiting check less, and delete empty entries."""
        line = self._lines[client]
        line.count -= 1
        self._waiting -= 1
        if not line.names[name]:
            del line.names[name]
        if not line.names:
            del self._lines[client]
