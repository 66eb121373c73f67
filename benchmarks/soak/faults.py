"""What goes wrong at the registries of the soak: for some seconds one kind of fault, or none."""

import asyncio
import random
import time
from collections.abc import Callable

from benchmarks.soak.site import MOST_LARGE, Site
from tests.fakes.changes import DropHeader, FlipByte, IgnoreRange, Reply
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Pause, Stall
from tests.fakes.matching import Match, on
from tests.fakes.registry import ScriptedRegistry

PHASE_SECONDS = 8.0
"""How long one kind of fault lasts."""
CALM = 0.4
"""Share of the time in which a registry has no fault."""
SHARE = 0.4
"""Share of the requests that a fault is for."""
SLOW_SECONDS = 1.5
TRICKLES = 4
REFUSAL = "401 without a challenge"
DENIAL_SECONDS = 10.0
"""How long after such a phase an answer may still come of it."""

Fault = Callable[[ScriptedRegistry, Callable[..., Match], random.Random, asyncio.Event], object]
"""Writes the script of one phase: the registry, which requests, chance, and what ends the phase."""


def _cut(registry: ScriptedRegistry, some: Callable[..., Match], chance: random.Random, _: asyncio.Event) -> None:
    registry.script(some("GET", "blob"), Cut(chance.randrange(MOST_LARGE), reset=chance.choice([True, False])))
    registry.script(some(), Cut(BEFORE_HEADERS))


def _stall(registry: ScriptedRegistry, some: Callable[..., Match], chance: random.Random, end: asyncio.Event) -> None:
    registry.script(some("GET", "blob"), Stall(chance.randrange(MOST_LARGE), end))
    registry.script(some("GET", "manifest"), Stall(BEFORE_HEADERS, end))


def _slow(registry: ScriptedRegistry, some: Callable[..., Match], chance: random.Random, end: asyncio.Event) -> None:
    places = [chance.randrange(MOST_LARGE) for _ in range(TRICKLES)]
    registry.script(some("GET", "blob"), *(Pause(place, end, 1.0) for place in places))
    registry.script(some(), Pause(BEFORE_HEADERS, end, SLOW_SECONDS))


def _corrupt(registry: ScriptedRegistry, some: Callable[..., Match], chance: random.Random, _: asyncio.Event) -> None:
    registry.script(some("GET", "manifest"), FlipByte(chance.choice(["first", "middle", "last"])))
    registry.script(some("GET", "blob"), FlipByte(chance.choice(["first", "middle", "last"])))


FAULTS: dict[str, Fault] = {
    "500": lambda registry, some, *_: registry.script(some(), Reply(500)),
    "502 of the token server": lambda registry, some, *_: registry.script(some(None, "token"), Reply(502)),
    REFUSAL: lambda registry, some, *_: registry.script(some("GET", "blob"), Reply(401)),
    "429": lambda registry, some, *_: registry.script(some(), Reply(429, headers={"Retry-After": "1"})),
    "revoked tokens": lambda registry, *_: registry.revoke_tokens(),
    "cut": _cut,
    "stall": _stall,
    "slow": _slow,
    "corrupt": _corrupt,
    "no length": lambda registry, some, *_: registry.script(some("GET", "blob"), DropHeader("Content-Length")),
    "no ranges": lambda registry, *_: registry.script(on("GET", "blob"), IgnoreRange()),
}


async def disturb(site: Site, chance: random.Random, phases: Callable[[str], None]) -> None:
    """Inject one kind of fault after another, without end; `phases` gets the name of each."""

    def some(*what: object) -> Match:
        return on(*what).where(lambda _: chance.random() < SHARE)  # type: ignore[arg-type] # as given above

    while True:
        end = asyncio.Event()
        name = "none" if chance.random() < CALM else chance.choice(list(FAULTS))
        if name != "none":
            FAULTS[name](site.registry, some, chance, end)
        phases(name)
        length = chance.uniform(0.5, 1.5) * PHASE_SECONDS
        if name == REFUSAL:
            site.may_deny_until = time.monotonic() + length + DENIAL_SECONDS
        try:
            await asyncio.sleep(length)
        finally:
            site.registry.behave()
            site.registry.record.clear()
            end.set()
