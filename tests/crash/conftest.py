"""Fixtures of the crash and fault figures: an origin in this process, the real program in another."""

import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash.lab import Lab
from tests.crash.origin import Origin
from tests.crash.program import Program
from tests.real.processes import scratch

SEED_BITS = 32


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` for the larger figures, `--seed` to repeat a run."""
    group = parser.getgroup("crash")
    group.addoption("--long", action="store_true", help="larger numbers in tests/crash; takes about an hour")
    group.addoption("--seed", type=int, help="the seed that a failed run has printed")


@pytest.fixture
def amount(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Choose between the number for every change and that for `--long`."""
    is_long = request.config.getoption("--long", default=False)
    return lambda usual, larger: larger if is_long else usual


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers; the seed is printed, which pytest shows when the test fails."""
    given = request.config.getoption("--seed", default=None)
    seed = secrets.randbits(SEED_BITS) if given is None else given
    print(f"--seed {seed}")  # noqa: T201 - printed with a failure
    return random.Random(seed)  # noqa: S311 - no secret


@pytest.fixture
def figures(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keep one line of counts for the end of the run, also when the test passes."""

    def keep(**counts: object) -> None:
        line = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counts.items())
        record_property("figures", f"{request.node.name}: {line}")

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines of counts, those of other processes (xdist) too."""
    reports = [report for kind in ("passed", "failed", "xpassed") for report in terminalreporter.getreports(kind)]
    lines = [str(value) for report in reports for name, value in report.user_properties if name == "figures"]
    if lines:
        terminalreporter.section("figures of tests/crash")
        terminalreporter.write("\n".join([*lines, ""]))


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """The strict registry."""
    async with Origin() as server:
        yield server


@pytest.fixture
async def program(origin: Origin) -> AsyncIterator[Callable[..., Program]]:
    """Make a program with a cache of its own (the settings of `cache` are given), not yet started."""
    async with contextlib.AsyncExitStack() as stack:

        def make(cache_directory: Path | None = None, *, workers: int = 1, **cache: Any) -> Program:
            directory = stack.enter_context(scratch("crash"))
            made = Program(directory, origin.url, cache_directory or directory / "cache", cache, workers)
            stack.push_async_callback(made.stop)
            return made

        yield make


@pytest.fixture
def lab(
    origin: Origin,
    program: Callable[..., Program],
    amount: Callable[[int, int], int],
    chance: random.Random,
    figures: Callable[..., None],
) -> Lab:
    """Everything above in one."""
    return Lab(origin, program, amount, chance, figures)
