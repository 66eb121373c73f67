"""Another configuration while pulls go on: a new generation is built, one reference is swapped, the old one is closed.

A configuration that cannot be used changes nothing, and says so.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from proxy.config.errors import ConfigError
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.config.restart import restart_changes
from proxy.observe.log import set_up_logging
from proxy.observe.metrics import CONFIG_RELOADS, CONFIG_SUCCESSFUL
from proxy.runtime.generation import Generation, Stamps, build_generation, stamps, tls_files
from proxy.runtime.preflight import preflight
from proxy.runtime.series import note_config_success, prepare_series
from proxy.server.app import ListenerApp
from proxy.transport.clock import Deadline
from proxy.transport.singleflight import Background

LOOK_SECONDS = 2.0
"""How often the files are looked at."""
RETRY_SECONDS = 10.0
"""How long after one that could not be used the configuration is read again: a file that it names may have come."""
SETTLE_SECONDS = 0.2
"""How long files have to stay as they are before they are read."""
LOAD_SECONDS = 30.0
"""For reading the configuration."""
PROBLEMS_SHOWN = 20
"""Most problems of one configuration that are logged."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where the configuration comes from: how it is read again, and the files that are watched.

    `load` blocks, and raises ConfigError and ValueError.
    """

    load: Callable[[], Loaded]
    files: Sequence[Path]
    seen: Stamps
    """The state of `files` before they were first read: what changes while the program starts is taken."""
    watches: bool = True
    """Whether changed files are noticed here; workers are told by their parent."""
    problems: tuple[str, ...] = ()
    """What was wrong with the newest configuration, for a worker that starts while an older one is in force."""


@dataclass(frozen=True, slots=True)
class LastReload:
    """How the last attempt to take another configuration ended, in seconds since the epoch."""

    at: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _InUse:
    """A generation that a request has entered."""

    generation: Generation
    listener: int

    def __enter__(self) -> ListenerApp:
        self.generation.begin()
        return self.generation.apps[self.listener]

    def __exit__(self, *_: object) -> None:
        self.generation.end()


class Reloader:
    """The configuration in force."""

    def __init__(self, first: Generation, bound: Config, origin: ConfigSource | None) -> None:
        self.current = first
        self.last: LastReload | None = None
        self._origin = origin
        self.bound = bound
        """The configuration whose listeners are open."""
        self._retiring = Background()
        self._asked = asyncio.Event()
        self.waiting = restart_changes(bound, first.loaded.config)
        """Settings of the configuration in force that take effect only after a restart."""
        prepare_series(first.loaded.config)
        if origin is not None and origin.problems:
            self._failed(list(origin.problems))
        else:
            note_config_success()

    def enter(self, listener: int) -> AbstractContextManager[ListenerApp]:
        """What answers a request to the listener of this number, for as long as it takes."""
        return _InUse(self.current, listener)

    def ask(self) -> None:
        """Have the configuration read again."""
        self._asked.set()

    async def watch(self) -> None:
        """Read the configuration again when it has changed, or when somebody asks for it; without end."""
        if self._origin is None:
            return
        seen: Stamps = (*self._origin.seen, *self.current.certificates)
        retry = Deadline.after(RETRY_SECONDS)
        while True:
            await self._pause()
            now = await self._look() if self._origin.watches else seen
            # A file that is being written is not read half; one that is missing may come without another change.
            is_changed = now != seen and now == await self._settled()
            is_due = bool(self.last and self.last.problems) and not retry.remaining and self._origin.watches
            if is_changed or is_due or self._asked.is_set():
                self._asked.clear()
                seen, retry = now, Deadline.after(RETRY_SECONDS)
                before = self.current
                await self.reload()
                if self.current is not before:  # which may name other certificates than those that were looked at
                    seen = (*now[: len(self._origin.files)], *self.current.certificates)

    async def reload(self) -> None:
        """Read the configuration and put it in force, if it can be used."""
        if self._origin is None:
            return
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                loaded = await asyncio.to_thread(self._origin.load)
                refuse_closed(self.bound, loaded.config)
                problems = await asyncio.to_thread(preflight, loaded)
            if problems:
                self._failed(problems)
                return
            generation = await build_generation(loaded, self.bound, self.current)
        except ConfigError as error:
            self._failed([str(problem) for problem in error.problems])
        except ValueError as error:
            self._failed([str(error)])
        except TimeoutError:
            self._failed([f"the configuration could not be read within {LOAD_SECONDS:.0f} s: is its disk gone?"])
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

    async def _settled(self) -> Stamps:
        await asyncio.sleep(SETTLE_SECONDS)
        return await self._look()

    async def _look(self) -> Stamps:
        named = [Path(file) for file in tls_files(self.current.loaded.config)]
        files = [*(self._origin.files if self._origin else ()), *named]
        return await asyncio.to_thread(stamps, files)

    def _swap(self, generation: Generation) -> None:
        before, self.current = self.current, generation
        self._retiring.start(before.retire())
        self.last = LastReload(time.time())
        CONFIG_RELOADS.labels("ok").inc()
        config = generation.loaded.config
        prepare_series(config)
        note_config_success()
        if config.log != before.loaded.config.log:
            set_up_logging(config.log.level, config.log.format)
        _logger.info("the configuration was read again and is in force")
        for note in generation.loaded.notes:
            _logger.log(logging.WARNING if note.severity == "warning" else logging.INFO, "%s", note)
        self.waiting = restart_changes(self.bound, config)
        if self.waiting:
            _logger.warning("these settings take effect only after a restart: %s", ", ".join(self.waiting))

    def _failed(self, problems: Sequence[str]) -> None:
        if self.last is not None and self.last.problems == tuple(problems[:PROBLEMS_SHOWN]):
            return  # told before, and looked at again in vain
        self.last = LastReload(time.time(), tuple(problems[:PROBLEMS_SHOWN]))
        CONFIG_RELOADS.labels("failed").inc()
        CONFIG_SUCCESSFUL.set(0)
        for problem in problems[:PROBLEMS_SHOWN]:
            _logger.error("the configuration stays as it was: %s", problem)


def refuse_closed(bound: Config, wanted: Config) -> None:
    """Refuse a configuration that leaves out an address which is open: nobody knows who is to be served there.

    Raises ValueError.
    """
    wanted_addresses = {listener.address for listener in wanted.listeners}
    gone = [listener.address for listener in bound.listeners if listener.address not in wanted_addresses]
    if gone:
        raise ValueError(f"{', '.join(gone)} is no longer among the listeners: addresses change with a restart only")
