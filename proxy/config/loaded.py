"""What comes of reading a configuration."""

from dataclasses import dataclass

from proxy.config.errors import Note
from proxy.config.model import Config
from proxy.config.positions import Positions


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, where its parts are written, and what the operator should know of it."""

    config: Config
    positions: Positions
    notes: tuple[Note, ...]
