"""What is wrong with a configuration, and where."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        """The place as editors and compilers write it."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One error: where it is, what is wrong, what to do. Never a secret value."""

    position: Position
    message: str

    def __str__(self) -> str:
        """`file:line:column: message`."""
        return f"{self.position}: {self.message}"


@dataclass(frozen=True, slots=True)
class Note:
    """Something the operator should know although the configuration can be used."""

    severity: Literal["warning", "info"]
    position: Position
    message: str

    def __str__(self) -> str:
        """`file:line:column: severity: message`."""
        return f"{self.position}: {self.severity}: {self.message}"


class SettingError(ValueError):
    """A setting that is right in itself and cannot be used on this machine, such as the name of a missing file."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        self.path = path
        """The key path of the setting."""
        super().__init__(f"{setting_name(path)}: {message}")


def setting_name(path: tuple[str | int, ...]) -> str:
    """A key path as people write it: `listeners[0].tls.certFile`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


class ConfigError(Exception):
    """A configuration that cannot be used; holds every problem, sorted by position."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
