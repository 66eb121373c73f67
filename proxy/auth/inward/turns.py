"""Turns for password checks, of which only a few may run at one time: fair between the addresses of clients that wait.

An address is limited only while others wait: then each gets one turn after the other. Among the checks of one address
the user name goes first that has had the fewest failed logins from there of late, so that guesses at one name do not
hold up another one behind the same address.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cachetools import TTLCache

from proxy.transport.limits import client_of

MAX_WAITING = 1024
"""Checks that wait for their turn; a further one takes the place of the newest of the address with the most."""
FAILED_SECONDS = 60.0
"""How long failed logins of an address and user name are counted after the last one."""
FAILED_REMEMBERED = 4096
"""Most pairs of address and user name whose failed logins are counted."""

_Turn = asyncio.Future[None]


class TooManyWaiting(Exception):
    """There is no place to wait for a turn."""


@dataclass(slots=True)
class _Line:
    """The checks of one address that wait, by user name, in the order in which the names have their turns."""

    names: dict[str, deque[_Turn]] = field(default_factory=dict)
    count: int = 0


class Turns:
    """Gives turns; the failed logins that it is told of decide their order."""

    def __init__(self, at_once: int, clock: Callable[[], float]) -> None:
        self._free = at_once
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._waiting = 0
        self._failed: TTLCache[tuple[str, str], int] = TTLCache(FAILED_REMEMBERED, FAILED_SECONDS, clock)

    async def take(self, address: str, name: str) -> None:
        """Wait for a turn; raises TooManyWaiting. Whoever gets one has to give it back."""
        if self._free and not self._lines:
            self._free -= 1
            return
        client, turn = client_of(address), asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(client, _Line())
        line.names.setdefault(name, deque()).append(turn)
        line.count += 1
        self._waiting += 1
        if self._waiting > MAX_WAITING:
            self._refuse_one()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()  # it came in the same turn of the loop
            else:
                self._leave(client, name, turn)
            raise

    def give_back(self) -> None:
        """The check is done: the next one has its turn."""
        while (turn := self._next()) is not None:
            if not turn.done():  # else its client is leaving at this moment
                turn.set_result(None)
                return
        self._free += 1

    def count_failed(self, address: str, name: str) -> None:
        """A login has failed."""
        key = client_of(address), name
        self._failed[key] = self._failed.get(key, 0) + 1

    def _next(self) -> _Turn | None:
        """Whose turn it is: the addresses take turns, and the user names of each."""
        if not self._lines:
            return None
        client, line = next(iter(self._lines.items()))
        name = min(line.names, key=lambda name: self._failed.get((client, name), 0))
        turn = line.names[name].popleft()
        self._taken(client, name)
        if name in line.names:
            line.names[name] = line.names.pop(name)
        if client in self._lines:
            self._lines.move_to_end(client)
        return turn

    def _refuse_one(self) -> None:
        """Refuse the newest check of the address, and there of the user name, with the most that wait."""
        client, line = max(self._lines.items(), key=lambda item: item[1].count)
        name = max(line.names, key=lambda name: len(line.names[name]))
        turn = line.names[name].pop()
        self._taken(client, name)
        turn.set_exception(TooManyWaiting("too many passwords wait to be checked"))

    def _leave(self, client: str, name: str, turn: _Turn) -> None:
        """Whoever waited is gone."""
        line = self._lines.get(client)
        if line is not None and name in line.names:
            with suppress(ValueError):
                line.names[name].remove(turn)
                self._taken(client, name)

    def _taken(self, client: str, name: str) -> None:
        """One of the checks does not wait any more; what is empty goes."""
        line = self._lines[client]
        line.count -= 1
        self._waiting -= 1
        if not line.names[name]:
            del line.names[name]
        if not line.names:
            del self._lines[client]
