"""What a conversion gives."""

from dataclasses import dataclass, field
from typing import Literal

from proxy.config.errors import Note, Position
from proxy.config.model import Config


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator says beside the file."""

    proxies: tuple[str, ...] = ("http://127.0.0.1:5000",)
    """Where nodes find the proxy."""
    ca_file: str | None = None
    """The authority of proxies with certificates, as a path on the node."""
    secrets_folder: str = "/etc/scope-proxy/secrets"
    """Where the proxy finds its secrets."""
    realms: tuple[tuple[str, str], ...] = ()
    """Token servers on another origin than the registry: host and origin."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One thing that is not as it was: where it stood, what became of it and why.

    A `question` is for the operator to answer; it makes the exit status 1.
    """

    position: Position
    kind: Literal["changed", "question", "info"]
    message: str

    def __str__(self) -> str:
        """`file:line:column: kind: message`."""
        return f"{self.position}: {self.kind}: {self.message}"

    @classmethod
    def of(cls, note: Note) -> "Change":
        """What a note of the importer says; what it warns of is for the operator to judge."""
        return cls(note.position, "question" if note.severity == "warning" else "info", note.message)


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret value of a host that moves out: `folder` and `key` name the file, and the Secret that holds it."""

    host: str
    folder: str
    key: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Conversion:
    """Everything that comes of one `registries.yaml`; no secret stands in any part but `secrets`."""

    config: Config
    secrets: tuple[SecretFile, ...]
    node: str
    """The node's new registries.yaml."""
    changes: tuple[Change, ...]

    @property
    def questions(self) -> int:
        """How many things are left for the operator to decide."""
        return sum(change.kind == "question" for change in self.changes)
