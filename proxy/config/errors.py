"""Problems and notes about a configuration, their positions, and the names of settings in messages."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pydantic.alias_generators import to_camel


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        """`file:line:column`, as editors and compilers write it."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One error: its position, what is wrong and what to do; never a secret value."""

    position: Position
    message: str

    def __str__(self) -> str:
        """`file:line:column: message`."""
        return f"{self.position}: {self.message}"


@dataclass(frozen=True, slots=True)
class Note:
    """A warning, or a fact worth knowing, about a configuration that can be used."""

    severity: Literal["warning", "info"]
    position: Position
    message: str

    def __str__(self) -> str:
        """`file:line:column: severity: message`."""
        return f"{self.position}: {self.severity}: {self.message}"


class SettingError(ValueError):
    """A valid setting that cannot be used on this machine, such as the path of a missing file."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        self.path = path
        """The key path of the setting."""
        super().__init__(f"{setting_name(path)}: {message}")


def setting_name(path: tuple[str | int, ...]) -> str:
    """A key path as text: `listeners[0].tls.certFile`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


class ConfigError(Exception):
    """A configuration that cannot be used, with every problem, sorted by position."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


_HARMLESS = re.compile(r"(?:https?://)?[A-Za-z0-9_*][A-Za-z0-9_.*-]{0,80}(?::[0-9]{1,5})?(?:/[A-Za-z0-9_./-]{0,80})?")
_K3S_NAMES = {
    "mirrors": "registries",
    "mirror": "registries",
    "configs": "hosts",
    "config": "hosts",
    "endpoint": "endpoints",
    "rewrite": "rewrites",
    "auth": "credentials",
    "auths": "hosts",
    "skip_verify": "insecureSkipVerify",
    "ca": "caFile",
}


def quoted_key(key: str, checked: str | None = None) -> str:
    """A key in quotes, or "(hidden)" if it, or `checked` if given, may be a misplaced password."""
    return repr(key) if _HARMLESS.fullmatch(key if checked is None else checked) else "(hidden)"


def suggestion(key: str, known: Collection[str]) -> str | None:
    """The known key that was probably meant: for the name in k3s, for snake_case, or for a typing error."""
    for candidate in (_K3S_NAMES.get(key), to_camel(key.replace("-", "_")), _K3S_NAMES.get(key.lower())):
        if candidate is not None and candidate in known:
            return candidate
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower()[:80], lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def unknown_key(key: str, known: Collection[str], *, secret: bool) -> str:
    """The message for an unknown key; in a section with secrets, it repeats only a key that resembles a known one."""
    meant = suggestion(key, known)
    if meant is not None and _HARMLESS.fullmatch(key):
        return f"unknown key {key!r}: did you mean {meant!r}?"
    if ":" in key:
        return "unknown key (hidden): is a space missing after the colon?"
    name = "(hidden)" if secret else quoted_key(key)
    return f"unknown key {name}: the known keys here are {', '.join(sorted(known))}"


KeyPath = tuple[str | int, ...]
"""Keys of mappings and indexes of lists that lead to a value."""


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a key or list item, and of its value."""

    key: Position
    value: Position


class Positions:
    """Maps a key path such as `("registries", "icr.io", "rewrites", 0)` to its place in the file."""

    def __init__(self, file: str, places: Mapping[KeyPath, Place]) -> None:
        self.file = file
        self._places = MappingProxyType(dict(places))

    def at(self, *path: str | int) -> str:
        """`file:line:column` of a key or list item; of the nearest parent if the file does not have it."""
        return str(self.key(*path))

    def key(self, *path: str | int) -> Position:
        """The position of a key or list item, else of the nearest parent."""
        place = self._find(path)
        return Position(self.file) if place is None else place.key

    def value(self, *path: str | int) -> Position:
        """The position of a value, else of the nearest parent's key."""
        place = self._places.get(self._written(path))
        return self.key(*path) if place is None else place.value

    def has(self, *path: str | int) -> bool:
        """Whether the file itself has this key or item."""
        return self._written(path) in self._places

    def _find(self, path: KeyPath) -> Place | None:
        written = self._written(path)
        for length in range(len(written), 0, -1):
            if written[:length] in self._places:
                return self._places[written[:length]]
        return None

    def _written(self, path: KeyPath) -> KeyPath:
        """The path in the file: without index 0 if the file has one value instead of a list."""
        written: KeyPath = ()
        for step in path:
            alone = step == 0 and (*written, 0) not in self._places
            written = written if alone else (*written, step)
        return written


@dataclass(slots=True)
class Findings:
    """Collects problems and notes, each at the position of a key path."""

    positions: Positions
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def error(self, path: KeyPath, message: str) -> None:
        """Add an error: the configuration cannot be used."""
        self.problems.append(Problem(self.positions.value(*path), message))

    def warning(self, path: KeyPath, message: str) -> None:
        """Add a warning about something that is probably a mistake."""
        self.notes.append(Note("warning", self.positions.value(*path), message))

    def info(self, path: KeyPath, message: str) -> None:
        """Add a note that needs no action."""
        self.notes.append(Note("info", self.positions.value(*path), message))

    def warning_at_key(self, path: KeyPath, message: str) -> None:
        """Add a warning at the key instead of at its value."""
        self.notes.append(Note("warning", self.positions.key(*path), message))

    def sorted_notes(self) -> tuple[Note, ...]:
        """The notes without duplicates, by position."""
        return tuple(sorted(dict.fromkeys(self.notes), key=lambda note: (note.position, note.severity, note.message)))
