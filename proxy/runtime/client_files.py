"""The files that identify clients (htpasswd, token keys): each is opened once for all listeners and configurations."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from proxy.auth.inward.watched_file import LOOK_TIMES, FileKind, FileStatus, LookTimes, WatchedFile, read_now
from proxy.config.errors import Findings, KeyPath
from proxy.config.load import Loaded


def warn_of_lines(loaded: Loaded, findings: Findings) -> None:
    """Warn of invalid lines in the files that a configuration names; reads the files, so it blocks.

    Ignores a file that is unusable as a whole: `preflight` reports it.
    """
    for number, listener in enumerate(loaded.config.listeners):
        clients = listener.clients
        for kind, file in ((_users, clients.htpasswd_file), (_keys, clients.token_key_file)):
            if file is not None:
                with suppress(ValueError):
                    _warn(findings, ("listeners", number, "clients"), kind(), file)


def _warn(findings: Findings, path: KeyPath, kind: FileKind[Any], file: str) -> None:
    for problem in read_now(Path(file), kind).problems:
        findings.warning((*path, kind.setting), f"{kind.setting}: ignored line: {problem}")


def _users() -> FileKind[Any]:
    from proxy.auth.inward.htpasswd import USERS  # noqa: PLC0415 - as below

    return USERS


def _keys() -> FileKind[Any]:
    from proxy.auth.inward.sealed_tokens import KEYS  # noqa: PLC0415 - it loads a library that most configurations do not need

    return KEYS


class ClientFile(Protocol):
    """An object that reads one of these files."""

    @property
    def file(self) -> WatchedFile[Any]:
        """The file."""


Reader = TypeVar("Reader", bound=ClientFile)


class ClientFiles:
    """The files of one configuration; takes over open ones with their state from the previous configuration."""

    def __init__(
        self, before: "ClientFiles | None" = None, *, is_trial: bool = False, times: LookTimes = LOOK_TIMES
    ) -> None:
        self.times = times
        self._is_trial = is_trial
        self._before = before.opened if before is not None else {}
        self.opened: dict[tuple[str, str], Any] = {}
        """By setting and path."""

    def open(self, setting: str, path: str, opening: Callable[[str], Reader]) -> Reader:
        """The object that reads the file of a setting; blocks if it is not open yet. Raises what `opening` raises."""
        key = (setting, path)
        if key not in self.opened:
            self.opened[key] = self._before.get(key) or self._first(path, opening)
        opened: Reader = self.opened[key]
        return opened

    def _first(self, path: str, opening: Callable[[str], Reader]) -> Reader:
        opened = opening(path)
        if not self._is_trial:
            opened.file.log_problems()
        return opened

    def statuses(self) -> Iterator[FileStatus]:
        """The status of each file."""
        for opened in self.opened.values():
            yield opened.file.status
