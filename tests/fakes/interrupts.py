"""Faults in the sending of an answer: it stalls, breaks off, or is followed by bytes that do not belong to it."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from proxy.testbed.answer import Answer
from proxy.testbed.server import Wire

BEFORE_HEADERS = -1
AT_END = 1 << 62
"""After the last byte of the body, before the last (empty) chunk of a chunked one."""
AFTER_END = AT_END + 1
"""After the whole answer."""

STALL_LIMIT = 60.0
"""Seconds after which a stalled answer is cut: no test may hang on a forgotten event."""


class HungUp(Exception):
    """The connection was closed on purpose; carries what to tell aiohttp."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__()
        self.response = response


class Interrupt(ABC):
    """Does something at one place of an answer: a count of body bytes, or one of the names above."""

    after: int

    @property
    def hides_status(self) -> bool:
        """Whether the client never gets the answer's own status."""
        return False

    @abstractmethod
    async def act(self, wire: Wire) -> None: ...


@dataclass(frozen=True, slots=True)
class Stall(Interrupt):
    """Sends nothing more until the event is set, and says through `reached` that it stalls."""

    after: int
    until: asyncio.Event
    reached: asyncio.Event | None = None

    async def act(self, wire: Wire) -> None:
        if self.reached is not None:
            self.reached.set()
        try:
            async with asyncio.timeout(STALL_LIMIT):
                await self.until.wait()
        except TimeoutError:
            raise HungUp(wire.hang_up()) from None


@dataclass(frozen=True, slots=True)
class Pause(Interrupt):
    """Sends nothing for some seconds, or until the event is set: many of them make a server that trickles."""

    after: int
    until: asyncio.Event
    seconds: float

    async def act(self, wire: Wire) -> None:  # noqa: ARG002 - one shape for all
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self.until.wait()


def trickle(start: int, until: asyncio.Event, seconds: float = 1.0) -> tuple[Pause, ...]:
    """From the byte `start` on one byte each so many seconds, for a minute."""
    return tuple(Pause(start + number, until, seconds) for number in range(60))


@dataclass(frozen=True, slots=True)
class Cut(Interrupt):
    """Closes the connection: properly (FIN), or with `reset` at once (RST; bytes under way may be lost)."""

    after: int = AFTER_END
    reset: bool = False

    @property
    def hides_status(self) -> bool:
        return self.after == BEFORE_HEADERS

    async def act(self, wire: Wire) -> None:
        raise HungUp(wire.hang_up(reset=self.reset))


@dataclass(frozen=True, slots=True)
class Extra(Interrupt):
    """Bytes after the answer: a body longer than its Content-Length, or garbage behind a response."""

    data: bytes
    after: int = AFTER_END

    async def act(self, wire: Wire) -> None:
        wire.raw(self.data)


@dataclass(frozen=True, slots=True)
class Raw(Interrupt):
    """These very bytes instead of an answer, then the connection is closed; an event between them is waited for."""

    parts: tuple[bytes | asyncio.Event, ...]
    after: int = BEFORE_HEADERS

    @property
    def hides_status(self) -> bool:
        return True

    async def act(self, wire: Wire) -> None:
        for part in self.parts:
            if isinstance(part, bytes):
                wire.raw(part)
            else:
                await Stall(self.after, part).act(wire)
        raise HungUp(wire.hang_up())


async def deliver(wire: Wire, answer: Answer, interrupts: Iterable[Interrupt]) -> web.StreamResponse:
    """Send an answer with its interrupts, in the order of their places."""
    ordered = sorted(interrupts, key=lambda one: one.after)
    try:
        for early in (one for one in ordered if one.after == BEFORE_HEADERS):
            await early.act(wire)
        await wire.head(answer)
        await _body(wire, answer, [one for one in ordered if BEFORE_HEADERS < one.after <= AT_END])
        sent = await wire.finish(answer)
        for late in (one for one in ordered if one.after == AFTER_END):
            await late.act(wire)
    except HungUp as end:
        return end.response
    return sent


async def _body(wire: Wire, answer: Answer, interrupts: list[Interrupt]) -> None:
    at, length = 0, wire.length(answer)
    for one in interrupts:
        place = min(one.after, length)
        await wire.body(answer, at, place)
        at = place
        await one.act(wire)
    await wire.body(answer, at, length)
