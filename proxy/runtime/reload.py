"""Another configuration while pulls go on: a new generation is built, one reference is swapped, the old one is closed.

A configuration that cannot be used changes nothing, and says so.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.config.errors import ConfigError
from proxy.config.loaded import Loaded
from proxy.config.model import Config
from proxy.metrics import CONFIG_RELOADS, CONFIG_SUCCESSFUL
from proxy.runtime.files import Stamps, stamps, tls_files
from proxy.runtime.generation import Generation, build_generation
from proxy.runtime.series import prepare_series
from proxy.server.app import Door
from proxy.server.tls import verify_mode
from proxy.transport.singleflight import Background

LOOK_SECONDS = 2.0
"""How often the files are looked at."""
PROBLEMS_SHOWN = 20
"""Most problems of one configuration that are logged."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the configuration comes from: how it is read again, and the files that are watched.

    `load` blocks, and raises ConfigError and ValueError.
    """

    load: Callable[[], Loaded]
    files: Sequence[Path]
    watches: bool = True
    """Whether changed files are noticed here; workers are told by their parent."""


@dataclass(frozen=True, slots=True)
class LastReload:
    """How the last attempt to take another configuration ended, in seconds since the epoch."""

    at: float
    problems: tuple[str, ...] = ()


class Reloader:
    """The configuration in force."""

    def __init__(self, first: Generation, bound: Config, origin: Origin | None) -> None:
        self.current = first
        self.last: LastReload | None = None
        self._origin = origin
        self._bound = bound
        self._retiring = Background()
        self._asked = asyncio.Event()
        prepare_series(first.loaded.config)

    @contextmanager
    def enter(self, listener: int) -> Iterator[Door]:
        """What answers a request to the listener of this number, for as long as it takes."""
        generation = self.current
        with generation.in_use():
            yield generation.doors[listener]

    def ask(self) -> None:
        """Have the configuration read again."""
        self._asked.set()

    async def watch(self) -> None:
        """Read the configuration again when it has changed, or when somebody asks for it; without end."""
        if self._origin is None:
            return
        seen = await self._look()
        while True:
            await self._pause()
            now = await self._look() if self._origin.watches else seen
            if now != seen or self._asked.is_set():
                self._asked.clear()
                seen = now
                await self.reload()

    async def reload(self) -> None:
        """Read the configuration and put it in force, if it can be used."""
        if self._origin is None:
            return
        try:
            loaded = await asyncio.to_thread(self._origin.load)
            generation = await build_generation(loaded, self._bound, self.current)
        except ConfigError as error:
            self._failed([str(problem) for problem in error.problems])
        except ValueError as error:
            self._failed([str(error)])
        except Exception:
            _logger.exception("a bug: the configuration cannot be read again")
            self._failed(["scope-proxy failed, see its log"])
        else:
            self._swap(generation)

    async def close(self) -> None:
        """Close everything at once."""
        await self._retiring.close()
        await self.current.close()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._asked.wait()
        except TimeoutError:
            return

    async def _look(self) -> Stamps:
        named = [Path(file) for file in tls_files(self.current.loaded.config)]
        files = [*(self._origin.files if self._origin else ()), *named]
        return await asyncio.to_thread(stamps, files)

    def _swap(self, generation: Generation) -> None:
        before, self.current = self.current, generation
        self._retiring.start(before.retire())
        self.last = LastReload(time.time())
        CONFIG_RELOADS.labels("ok").inc()
        prepare_series(generation.loaded.config)
        _logger.info("the configuration was read again and is in force")
        waiting = needs_restart(self._bound, generation.loaded.config)
        if waiting:
            _logger.warning("these settings hold from the next start on: %s", ", ".join(waiting))

    def _failed(self, problems: list[str]) -> None:
        self.last = LastReload(time.time(), tuple(problems[:PROBLEMS_SHOWN]))
        CONFIG_RELOADS.labels("failed").inc()
        CONFIG_SUCCESSFUL.set(0)
        for problem in problems[:PROBLEMS_SHOWN]:
            _logger.error("the configuration stays as it was: %s", problem)


def needs_restart(bound: Config, wanted: Config) -> list[str]:
    """The settings that another configuration has and that only a start can change."""
    found = [name for name in ("admin", "workers", "limits") if getattr(bound, name) != getattr(wanted, name)]
    before = {listener.address: (listener.tls, verify_mode(listener.clients.auth)) for listener in bound.listeners}
    after = {listener.address: (listener.tls, verify_mode(listener.clients.auth)) for listener in wanted.listeners}
    if before.keys() != after.keys():
        found.append("addresses of listeners")
    found += [f"tls of {address}" for address in before.keys() & after.keys() if before[address] != after[address]]
    times = ("request", "client_stall", "shutdown_grace", "drain_idle")
    if any(getattr(bound.timeouts, name) != getattr(wanted.timeouts, name) for name in times):
        found.append("timeouts of clients and of the stop")
    return found
