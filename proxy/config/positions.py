"""Where each key and value of a configuration stands in its file."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from proxy.config.errors import Position

KeyPath = tuple[str | int, ...]
"""A way through mappings (by key) and lists (by index)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key (or the item of a list) stands, and where its value begins."""

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
        """The path as the file has it: where one value stands for a list of one, index 0 is left out."""
        written: KeyPath = ()
        for step in path:
            alone = step == 0 and (*written, 0) not in self._places
            written = written if alone else (*written, step)
        return written
