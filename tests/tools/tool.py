"""A tool that tests use and no package manager has: its pinned version, and the directory that it is built into."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "SCOPE_PROXY_TOOLS"
_PIN_LENGTH = 8


def tools_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """The directory of all tools: `SCOPE_PROXY_TOOLS`, or `scope-proxy-tools` in the user's cache.

    The user's cache is `XDG_CACHE_HOME` where that is an absolute path, as its specification has it, else `~/.cache`.
    """
    if chosen := environment.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    cache = Path(environment.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "scope-proxy-tools"


class UnavailableError(Exception):
    """This machine cannot build the tool; says what is missing."""


@dataclass(frozen=True, slots=True)
class Tool(ABC):
    """A pinned tool; kinds of tools add how it is built."""

    name: str
    version: str

    @property
    def path(self) -> Path:
        """Its directory; one of another name as soon as anything in its definition changes."""
        pin = hashlib.sha256(repr(self).encode()).hexdigest()[:_PIN_LENGTH]
        return tools_directory() / f"{self.name}-{self.version}-{pin}"

    @abstractmethod
    def build(self, target: Path, workshop: Path) -> None:
        """Fill the directory `target`, which does not exist yet; `workshop` is for files of the build.

        UnavailableError where this machine cannot build it, CalledProcessError or TimeoutExpired where a command fails.
        """
