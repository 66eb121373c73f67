"""A file with users or keys that is checked for changes and read again while the program runs.

Valid lines are used even if others are invalid. A file that is missing, empty or unreadable has no users or keys, so it
authenticates no client; after an error that does not concern the file itself (a disk error, no free descriptor), the
last content remains in use. Content that looks wrong is read a second time shortly after: it may be half written.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from proxy.config.files import FileState, read_bounded, state_of

LOOK_SECONDS = 1.0
"""Shortest time between two checks of the file."""
LOOK_WAIT_SECONDS = 2.0
"""How long a client waits for a check; if the disk does not respond, the known content is used."""
SETTLE_SECONDS = 0.2
"""How long after the first read wrong content is read again."""


@dataclass(frozen=True, slots=True)
class LookTimes:
    """When a file is checked and read again, in seconds."""

    interval: float = LOOK_SECONDS
    wait: float = LOOK_WAIT_SECONDS
    settle: float = SETTLE_SECONDS


LOOK_TIMES = LookTimes()
PROBLEMS_LIMIT = 20
"""Most problems of one file that are reported."""

_OF_THE_FILE = frozenset(
    {
        errno.EACCES,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENXIO,
        errno.EPERM,
    }
)
"""System errors that concern the file itself, not the disk or this process."""
_logger = logging.getLogger(__name__)
Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Parsed(Generic[Content]):
    """The parsed content of a file, and the problems of its lines: `file:line: ...`, without secrets."""

    content: Content
    count: int
    """The number of users or keys."""
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileKind(Generic[Content]):
    """How the file of a setting is parsed and reported."""

    setting: str
    names: str
    """What it holds, for people: users or keys."""
    limit: int
    """Bytes that are read; the rest is ignored."""
    parse: Callable[[bytes, str], Parsed[Content]]
    nothing: Content
    """The content of a file without users or keys."""
    add_one: str
    """What to do about an empty file; `{file}` is replaced with its path."""
    without: str
    """The effect of an unusable file, for the log."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The state of a file, for the status page and the log."""

    setting: str
    file: str
    count: int
    """Users or keys in use."""
    trouble: str
    """Why the whole file cannot be used; empty if it can."""
    problems: tuple[str, ...]
    """The problems of invalid lines, which are ignored."""


@dataclass(frozen=True, slots=True)
class _Look(Generic[Content]):
    """The result of reading a file once."""

    state: FileState | None
    parsed: Parsed[Content] | None
    """None if the file has no users or keys, or cannot be read."""
    trouble: str = ""
    is_transient: bool = False
    """The error does not concern the file itself."""

    @property
    def all_problems(self) -> tuple[str, ...]:
        """The trouble of the whole file, else the problems of its lines."""
        return (self.trouble,) if self.parsed is None else self.parsed.problems


class WatchedFile(Generic[Content]):
    """The current content of one file."""

    def __init__(
        self,
        path: Path,
        kind: FileKind[Content],
        first: _Look[Content],
        clock: Callable[[], float] = time.monotonic,
        times: LookTimes = LOOK_TIMES,
    ) -> None:
        self._path = path
        self._kind = kind
        self._clock = clock
        self._times = times
        self._known = first
        self._next_look = 0.0
        self._looking: asyncio.Future[_Look[Content] | None] | None = None
        self.content = kind.nothing if first.parsed is None else first.parsed.content
        """The content as of the last check."""
        self._count = 0 if first.parsed is None else first.parsed.count
        self._problems = () if first.parsed is None else first.parsed.problems

    @classmethod
    def open(
        cls,
        path: Path,
        kind: FileKind[Content],
        clock: Callable[[], float] = time.monotonic,
        times: LookTimes = LOOK_TIMES,
    ) -> Self:
        """Read the file for the first time; blocks. Raises ValueError: what is wrong, where, what to do."""
        first = _read(path, kind)
        if first.parsed is None:
            raise ValueError(first.trouble)
        return cls(path, kind, first, clock, times)

    @property
    def status(self) -> FileStatus:
        """The state of the file."""
        return FileStatus(self._kind.setting, str(self._path), self._count, self._known.trouble, self._problems)

    async def current(self) -> Content:
        """The current content; the file is checked for changes in a thread, at most once a second."""
        now = self._clock()
        if self._looking is None and now >= self._next_look:
            self._next_look = now + self._times.interval
            loop, settle = asyncio.get_running_loop(), self._times.settle
            self._looking = looking = loop.run_in_executor(None, _look, self._path, self._kind, self._known, settle)
            looking.add_done_callback(self._looked)
            try:
                async with asyncio.timeout(self._times.wait):
                    await asyncio.shield(looking)
            except TimeoutError:
                _logger.warning("%s: the disk does not respond; the last content remains in use", self._name)
        return self.content

    def _looked(self, looking: asyncio.Future[_Look[Content] | None]) -> None:
        self._looking = None
        look = None if looking.cancelled() else looking.result()
        if look is None:
            return
        before, self._known = self._known, look
        if look.is_transient:
            if look.trouble != before.trouble:
                _logger.error("%s: %s; the last content remains in use", self._name, look.trouble)
            return
        self._count, self._problems = 0, ()
        if look.parsed is None:
            self.content = self._kind.nothing
            if look.trouble != before.trouble:
                _logger.error("%s: %s: %s", self._name, self._kind.without, look.trouble)
            return
        self.content, self._count = look.parsed.content, look.parsed.count
        self._problems = look.parsed.problems
        _logger.info("%s changed and was read again: %s: %d", self._name, self._kind.names, self._count)
        self.log_problems()

    @property
    def _name(self) -> str:
        return f"{self._kind.setting} {self._path}"

    def log_problems(self) -> None:
        """Log the ignored lines."""
        for problem in self._problems:
            _logger.warning("%s: ignored line: %s", self._kind.setting, problem)


def read_now(path: Path, kind: FileKind[Content]) -> Parsed[Content]:
    """Read the file; blocks. Raises ValueError if it cannot be read or has no users or keys."""
    look = _read(path, kind)
    if look.parsed is None:
        raise ValueError(look.trouble)
    return look.parsed


def _look(path: Path, kind: FileKind[Content], known: _Look[Content], settle: float) -> _Look[Content] | None:
    """Read the file if it has changed, else None; blocks."""
    if not known.is_transient and state_of(path) == known.state and (known.parsed is not None or known.state is None):
        return None
    look = _read(path, kind)
    if (look.all_problems and look.all_problems != known.all_problems) or state_of(path) != look.state:
        time.sleep(settle)
        look = _read(path, kind)
    return look


def _read(path: Path, kind: FileKind[Content]) -> _Look[Content]:
    try:
        content, state = read_bounded(path, kind.limit)
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror or type(error).__name__}"
        return _Look(state_of(path), None, reason, error.errno not in _OF_THE_FILE)
    content = content or b""
    is_long = len(content) > kind.limit
    if is_long:
        content = content[: content.rfind(b"\n", 0, kind.limit) + 1]
    parsed = kind.parse(content, str(path))
    problems = parsed.problems
    if is_long:
        problems = (*problems, f"{path} is larger than {kind.limit >> 10} KiB: the rest is ignored")
    if not parsed.count:
        return _Look(state, None, problems[0] if problems else f"{path} {kind.add_one.format(file=path)}")
    return _Look(state, Parsed(parsed.content, parsed.count, _bounded(problems)))


def _bounded(problems: tuple[str, ...]) -> tuple[str, ...]:
    if len(problems) <= PROBLEMS_LIMIT:
        return problems
    return (*problems[:PROBLEMS_LIMIT], f"and {len(problems) - PROBLEMS_LIMIT} more lines")
