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


class ConfigError(Exception):
    """A configuration that cannot be used; holds every problem, sorted by position."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
