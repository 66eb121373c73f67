"""Reload: builds a new generation, swaps one reference, and closes the old generation when its requests have ended.

A configuration that cannot be used changes nothing; the log, the metrics and `/status` report why.
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
"""Interval at which the files are checked for changes."""
RETRY_SECONDS = 10.0
"""Pause before an unusable configuration is read again: a missing file that it names may exist by then."""
SETTLE_SECONDS = 0.2
"""How long changed files must stay unchanged before they are read."""
LOAD_SECONDS = 30.0
"""Timeout for reading the configuration."""
PROBLEMS_LIMIT = 20
"""Maximum number of problems of one configuration that are logged."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """The source of the configuration: how to read it again, and the files to watch.

    `load` blocks, and raises ConfigError and ValueError.
    """

    load: Callable[[], Loaded]
    files: Sequence[Path]
    seen: Stamps
    """The states of `files` before they were first read, so that a change during the start is noticed."""
    watches: bool = True
    """Whether this process watches the files; False for workers, which get a signal from their parent."""
    problems: tuple[str, ...] = ()
    """The problems of the newest configuration, for a worker that starts while an older one is active."""
    look_seconds: float = LOOK_SECONDS
    settle_seconds: float = SETTLE_SECONDS


@dataclass(frozen=True, slots=True)
class LastReload:
    """When the last reload ended (seconds since the epoch), and its problems."""

    at: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _InUse:
    """Counts one request of a generation for the time of the block."""

    generation: Generation
    listener: int

    def __enter__(self) -> ListenerApp:
        self.generation.begin()
        return self.generation.apps[self.listener]

    def __exit__(self, *_: object) -> None:
        self.generation.end()


class Reloader:
    """Holds the active generation and replaces it on a reload."""

    def __init__(self, first: Generation, bound: Config, origin: ConfigSource | None) -> None:
        self.current = first
        self.last: LastReload | None = None
        self._origin = origin
        self.bound = bound
        """The configuration whose listeners are open."""
        self._retiring = Background()
        self._requested = asyncio.Event()
        self.waiting = restart_changes(bound, first.loaded.config)
        """Changed settings of the active configuration that take effect only after a restart."""
        prepare_series(first.loaded.config)
        if origin is not None and origin.problems:
            self._report_failure(list(origin.problems))
        else:
            note_config_success()

    def enter(self, listener: int) -> AbstractContextManager[ListenerApp]:
        """A context with the application of a listener; its generation stays open in the block."""
        return _InUse(self.current, listener)

    def request(self) -> None:
        """Request a reload."""
        self._requested.set()

    async def watch(self) -> None:
        """Reload when the files change, when a reload is requested, and to retry a failed one; runs forever."""
        origin = self._origin
        if origin is None:
            return
        seen: Stamps = (*origin.seen, *self.current.certificates)
        retry = Deadline.after(RETRY_SECONDS)
        while True:
            await self._pause(origin.look_seconds)
            now = await self._look() if origin.watches else seen
            # Reads no half-written file. A missing file may appear without a change of the watched ones.
            is_changed = now != seen and now == await self._look_settled(origin.settle_seconds)
            is_due = bool(self.last and self.last.problems) and not retry.remaining and origin.watches
            if is_changed or is_due or self._requested.is_set():
                self._requested.clear()
                seen, retry = now, Deadline.after(RETRY_SECONDS)
                before = self.current
                await self.reload()
                if self.current is not before:  # it may name other TLS files
                    seen = (*now[: len(origin.files)], *self.current.certificates)

    async def reload(self) -> None:
        """Read the configuration, and activate it if it can be used."""
        if self._origin is None:
            return
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                loaded = await asyncio.to_thread(self._origin.load)
                refuse_closed(self.bound, loaded.config)
                problems = await asyncio.to_thread(preflight, loaded)
            if problems:
                self._report_failure(problems)
                return
            generation = await build_generation(loaded, self.bound, self.current)
        except ConfigError as error:
            self._report_failure([str(problem) for problem in error.problems])
        except ValueError as error:
            self._report_failure([str(error)])
        except TimeoutError:
            self._report_failure([f"cannot read the configuration within {LOAD_SECONDS:.0f} s: check its disk"])
        except Exception:
            _logger.exception("a bug: cannot read the configuration again")
            self._report_failure(["scope-proxy failed, see its log"])
        else:
            self._swap(generation)

    async def close(self) -> None:
        """Close all generations now."""
        await self._retiring.close()
        await self.current.close()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._requested.wait()
        except TimeoutError:
            return

    async def _look_settled(self, seconds: float) -> Stamps:
        await asyncio.sleep(seconds)
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
        prepare_series(config, generation.engine_part.value.rate_limits.labels())
        note_config_success()
        if config.log != before.loaded.config.log:
            set_up_logging(config.log.level, config.log.format, config.log.access)
        _logger.info("reloaded the configuration")
        for note in generation.loaded.notes:
            _logger.log(logging.WARNING if note.severity == "warning" else logging.INFO, "%s", note)
        self.waiting = restart_changes(self.bound, config)
        if self.waiting:
            _logger.warning("these settings take effect only after a restart: %s", ", ".join(self.waiting))

    def _report_failure(self, problems: Sequence[str]) -> None:
        if self.last is not None and self.last.problems == tuple(problems[:PROBLEMS_LIMIT]):
            return  # a retry with the same problems, which are logged already
        self.last = LastReload(time.time(), tuple(problems[:PROBLEMS_LIMIT]))
        CONFIG_RELOADS.labels("failed").inc()
        CONFIG_SUCCESSFUL.set(0)
        for problem in problems[:PROBLEMS_LIMIT]:
            _logger.error("cannot reload the configuration, the previous one stays active: %s", problem)


def refuse_closed(bound: Config, wanted: Config) -> None:
    """Raise ValueError for a configuration without an open address: it does not say how to serve requests there."""
    wanted_addresses = {listener.address for listener in wanted.listeners}
    removed = [listener.address for listener in bound.listeners if listener.address not in wanted_addresses]
    if removed:
        raise ValueError(f"{', '.join(removed)} is no longer under listeners: restart scope-proxy to change addresses")
