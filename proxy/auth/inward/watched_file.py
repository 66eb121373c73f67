"""A file by which clients are known, as it is now: looked at again and again, and what it says counts.

Good lines count, whatever stands in the others. A file that is gone, empty or not to be read names nobody, so that
nobody is let in by it; only an error that says nothing of the file (of its disk, or that no descriptor is left) leaves
what was known before. What looks wrong is read a second time a moment later: it may just be written.
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
"""How often the file is looked at, at the most."""
LOOK_WAIT_SECONDS = 2.0
"""How long a client waits for that; on a disk that hangs it goes on with what is known."""
SETTLE_SECONDS = 0.2
"""How long after the first look something that is wrong must still be so."""
PROBLEMS_SHOWN = 20
"""Most bad lines of one file that are told of."""

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
"""Errors of the system that are about the file, and not about the disk or this process."""
_logger = logging.getLogger(__name__)
Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Parsed(Generic[Content]):
    """What a file says, and what is wrong with lines of it: `file:line: ...`, without any secret."""

    content: Content
    count: int
    """Users or keys that it names."""
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileKind(Generic[Content]):
    """How files of a setting are read."""

    setting: str
    names: str
    """What it names, for people: users or keys."""
    limit: int
    """Bytes of it that are read; what stands behind them does not count."""
    parse: Callable[[bytes, str], Parsed[Content]]
    nothing: Content
    """What a file says that names nobody."""
    add_one: str
    """What to do about such a file; `{file}` stands for it."""
    without: str
    """What that means."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What people are told of a file."""

    setting: str
    file: str
    count: int
    """Users or keys in force."""
    trouble: str
    """Why the file as a whole cannot be used; empty where it can."""
    problems: tuple[str, ...]
    """Bad lines, which do not count."""


@dataclass(frozen=True, slots=True)
class _Look(Generic[Content]):
    """A state of the file that is new."""

    state: FileState | None
    parsed: Parsed[Content] | None
    """None where it names nobody, or cannot be read."""
    trouble: str = ""
    is_passing: bool = False

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is wrong with it."""
        return (self.trouble,) if self.parsed is None else self.parsed.problems


class WatchedFile(Generic[Content]):
    """What one file says now."""

    def __init__(
        self, path: Path, kind: FileKind[Content], first: _Look[Content], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._kind = kind
        self._clock = clock
        self._known = first
        self._next_look = 0.0
        self._looking: asyncio.Future[_Look[Content] | None] | None = None
        self.content = kind.nothing if first.parsed is None else first.parsed.content
        """What it said when it was last looked at."""
        self._count = 0 if first.parsed is None else first.parsed.count
        self._problems = () if first.parsed is None else first.parsed.problems

    @classmethod
    def open(cls, path: Path, kind: FileKind[Content], clock: Callable[[], float] = time.monotonic) -> Self:
        """Read the file for the first time; blocks. Raises ValueError: what is wrong, where, what to do."""
        first = _read(path, kind)
        if first.parsed is None:
            raise ValueError(first.trouble)
        return cls(path, kind, first, clock)

    @property
    def status(self) -> FileStatus:
        """What people are told of it."""
        return FileStatus(self._kind.setting, str(self._path), self._count, self._known.trouble, self._problems)

    async def current(self) -> Content:
        """What the file says; it is looked at in a thread, at most once a second."""
        now = self._clock()
        if self._looking is None and now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            looking = asyncio.get_running_loop().run_in_executor(None, _look, self._path, self._kind, self._known)
            self._looking = looking
            looking.add_done_callback(self._looked)
            try:
                async with asyncio.timeout(LOOK_WAIT_SECONDS):
                    await asyncio.shield(looking)
            except TimeoutError:
                _logger.warning("%s: the disk does not answer, what it said before counts", self._name)
        return self.content

    def _looked(self, looking: asyncio.Future[_Look[Content] | None]) -> None:
        self._looking = None
        found = None if looking.cancelled() else looking.result()
        if found is None:
            return
        before, self._known = self._known, found
        if found.is_passing:
            if found.trouble != before.trouble:
                _logger.error("%s cannot be read, what it said before counts: %s", self._name, found.trouble)
            return
        self._count, self._problems = 0, ()
        if found.parsed is None:
            self.content = self._kind.nothing
            if found.trouble != before.trouble:
                _logger.error("%s: %s: %s", self._name, self._kind.without, found.trouble)
            return
        self.content, self._count = found.parsed.content, found.parsed.count
        self._problems = found.parsed.problems
        _logger.info("%s was read again: %s: %d", self._name, self._kind.names, self._count)
        self.log_problems()

    @property
    def _name(self) -> str:
        return f"{self._kind.setting} {self._path}"

    def log_problems(self) -> None:
        """Let the log say which lines do not count."""
        for problem in self._problems:
            _logger.warning("%s: a line does not count: %s", self._kind.setting, problem)


def read_now(path: Path, kind: FileKind[Content]) -> Parsed[Content]:
    """What the file says at this moment; blocks. Raises ValueError where it cannot be read or names nobody."""
    found = _read(path, kind)
    if found.parsed is None:
        raise ValueError(found.trouble)
    return found.parsed


def _look(path: Path, kind: FileKind[Content], known: _Look[Content]) -> _Look[Content] | None:
    """The file, if it is not as it was; blocks."""
    if not known.is_passing and state_of(path) == known.state and (known.parsed is not None or known.state is None):
        return None
    found = _read(path, kind)
    if (found.wrong and found.wrong != known.wrong) or state_of(path) != found.state:
        time.sleep(SETTLE_SECONDS)
        found = _read(path, kind)
    return found


def _read(path: Path, kind: FileKind[Content]) -> _Look[Content]:
    try:
        content, state = read_bounded(path, kind.limit)
    except OSError as error:
        reason = f"{path} cannot be read: {error.strerror or type(error).__name__}"
        return _Look(state_of(path), None, reason, error.errno not in _OF_THE_FILE)
    content = content or b""
    is_long = len(content) > kind.limit
    if is_long:
        content = content[: content.rfind(b"\n", 0, kind.limit) + 1]
    parsed = kind.parse(content, str(path))
    problems = parsed.problems
    if is_long:
        problems = (*problems, f"{path} is larger than {kind.limit >> 10} KiB: what stands behind does not count")
    if not parsed.count:
        return _Look(state, None, problems[0] if problems else f"{path} {kind.add_one.format(file=path)}")
    return _Look(state, Parsed(parsed.content, parsed.count, _bounded(problems)))


def _bounded(problems: tuple[str, ...]) -> tuple[str, ...]:
    if len(problems) <= PROBLEMS_SHOWN:
        return problems
    return (*problems[:PROBLEMS_SHOWN], f"and {len(problems) - PROBLEMS_SHOWN} more lines")
