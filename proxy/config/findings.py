"""Collects what is found wrong or remarkable in a configuration."""

from dataclasses import dataclass, field

from proxy.config.errors import Note, Problem
from proxy.config.positions import KeyPath, Positions


@dataclass(slots=True)
class Findings:
    """Problems and notes, each placed by the key path it is about."""

    positions: Positions
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def error(self, path: KeyPath, message: str) -> None:
        """Report what makes the configuration unusable."""
        self.problems.append(Problem(self.positions.value(*path), message))

    def warning(self, path: KeyPath, message: str) -> None:
        """Report what is probably not meant."""
        self.notes.append(Note("warning", self.positions.value(*path), message))

    def info(self, path: KeyPath, message: str) -> None:
        """Report what is good to know."""
        self.notes.append(Note("info", self.positions.value(*path), message))

    def warning_at_key(self, path: KeyPath, message: str) -> None:
        """Report a key that is probably not meant."""
        self.notes.append(Note("warning", self.positions.key(*path), message))

    def sorted_notes(self) -> tuple[Note, ...]:
        """Every note once, by position."""
        return tuple(sorted(dict.fromkeys(self.notes), key=lambda note: (note.position, note.severity, note.message)))
