"""A client that checks every byte, and goes on where it was cut, as containerd does."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.crash.origin import Thing
from tests.fakes.client import PIECE, NodeClient, read_head

PATIENCE = 60.0
"""Seconds that one request may take; a machine that is busy must not fail a test."""
ATTEMPTS = 12
"""Requests that one pull may cost."""
RECEIVE_BUFFER = 32 * 1024
"""Bytes that the kernel takes for a client: little, so that a proxy that is killed has not sent everything already."""


@dataclass(slots=True)
class Tally:
    """What became of pulls."""

    pulls: int = 0
    failed: int = 0
    wrong: int = 0
    """Answers that ended as if complete, with bytes that are not the right ones."""
    cut: int = 0
    refused: int = 0
    restarted: int = 0
    reasons: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """For the line of figures."""
        names = ("pulls", "cut", "refused", "restarted", "failed", "wrong")
        return {name: getattr(self, name) for name in names}

    def assert_clean(self) -> None:
        """No byte was wrong and no pull failed."""
        assert (self.wrong, self.failed) == (0, 0), self.reasons[-20:]


class Transfer:
    """One client's pull of one thing from byte `first` on, over as many requests as it takes."""

    def __init__(
        self, address: str, thing: Thing, tally: Tally, count: Callable[[int], None] | None = None, first: int = 0
    ) -> None:
        self._address = address
        self._thing = thing
        self._tally = tally
        self._count = count or (lambda _: None)
        self._first = self._offset = first
        self._hasher = hashlib.sha256()
        self.is_done = False
        tally.pulls += 1

    async def finish(self, attempts: int = ATTEMPTS) -> bool:
        """Ask until all bytes are there; whether they are."""
        while not self.is_done and attempts:
            attempts -= 1
            await self.attempt()
        if not self.is_done:
            self._tally.failed += 1
        return self.is_done

    async def attempt(self) -> None:
        """Send one request for what is missing, and read what comes."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._request()
        except (asyncio.IncompleteReadError, OSError) as error:
            self._tally.cut += 1
            self._note(f"cut at {self._offset}: {type(error).__name__}")

    async def _request(self) -> None:
        headers = (("Range", f"bytes={self._offset}-"),) if self._offset else ()
        async with NodeClient(self._address).opened(
            "GET", self._thing.target, *headers, receive_buffer=RECEIVE_BUFFER
        ) as (reader, _):
            status, reason, lines = await read_head(reader)
            length = int({name.lower(): value for name, value in lines}["content-length"])
            if status >= 400:
                self._refused(f"{status} {reason}")
                return
            assert status == (206 if self._offset else 200)
            while length:
                piece = await reader.read(min(length, PIECE))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", length)
                length -= len(piece)
                self._take(piece)
        self._judge()

    def _take(self, piece: bytes) -> None:
        self._hasher.update(piece)
        self._offset += len(piece)
        self._count(len(piece))

    def _refused(self, reason: str) -> None:
        self._tally.refused += 1
        self._note(f"refused at {self._offset}: {reason}")
        if self._offset:  # a part is refused while clients may hold a wrong beginning: then all of it
            self._first = 0
            self._restart()

    def _judge(self) -> None:
        """The answer ended as its header said: it must be all there is, and right."""
        if self._offset == self._thing.size and self._hasher.hexdigest() == self._thing.digest_from(self._first):
            self.is_done = True
            return
        self._tally.wrong += 1
        self._note(f"complete and wrong: {self._offset} of {self._thing.size} bytes from {self._first} on")
        self._restart()

    def _restart(self) -> None:
        self._tally.restarted += 1
        self._offset = self._first
        self._hasher = hashlib.sha256()

    def _note(self, what: str) -> None:
        self._tally.reasons.append(f"{self._thing.digest[:15]} {what}")


async def finish_all(clients: Iterable[Transfer], attempts: int = ATTEMPTS) -> None:
    """Finish all pulls at the same time."""
    await asyncio.gather(*(client.finish(attempts) for client in clients))


class Point:
    """Does something once, when so many bytes have been counted."""

    def __init__(self, at: int, action: Callable[[], None]) -> None:
        self._left = at
        self._action = action
        self._is_reached = False

    def count(self, size: int) -> None:
        """So many bytes more."""
        self._left -= size
        if self._left <= 0:
            self.reach()

    def reach(self) -> None:
        """Do it now, unless it has been done."""
        if not self._is_reached:
            self._is_reached = True
            self._action()
