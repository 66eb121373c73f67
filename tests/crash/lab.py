"""What every crash test works with."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.crash.origin import Origin, Thing
from tests.crash.program import Program

TIMEOUT = 7200
"""Seconds for one test; with `--long` all of them take about an hour, so this ends only what hangs."""
KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Lab:
    """The origin, the maker of programs, and what a run's numbers are chosen with and kept in."""

    origin: Origin
    program: Callable[..., Program]
    amount: Callable[[int, int], int]
    chance: random.Random
    figures: Callable[..., None]

    def blobs(self, count: int, least: int, below: int) -> list[Thing]:
        """Hold so many new blobs of random sizes."""
        return [self.origin.blob(self.chance.randrange(least, below)) for _ in range(count)]
