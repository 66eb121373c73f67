"""The parts of a conversion as named texts, to print, compare or write. Blocking calls."""

import difflib
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.config.model import Config
from proxy.k3s.node_file import masked
from proxy.k3s.result import Conversion, render_config, render_secrets, render_values
from proxy.nodes.node_config import HOSTS_FILE, Mark, plan

CHANGES_NAME = "changes.txt"
NODE_NAME = "registries.yaml"
SECRETS_NAME = "secrets.yaml"
_OPEN_MODE, _SECRET_MODE = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class OutputPart:
    """One text, under the name that its file has."""

    name: str
    title: str
    text: str
    mode: int = _OPEN_MODE


def parts(conversion: Conversion, *, values: bool) -> tuple[OutputPart, ...]:
    """All that is YAML; `values`: the chart's values in place of the configuration."""
    config = (
        OutputPart("values.yaml", "values of the chart", render_values(conversion.config, conversion.secrets))
        if values
        else OutputPart("config.yaml", "the proxy's configuration", render_config(conversion.config))
    )
    node = OutputPart(NODE_NAME, "the node's new registries.yaml", conversion.node)
    secret = OutputPart(SECRETS_NAME, "apply it, then delete it", render_secrets(conversion.secrets), _SECRET_MODE)
    return (config, *((secret,) if conversion.secrets else ()), node)


def tree(config: Config, proxies: Sequence[str], instance: str) -> tuple[OutputPart, ...]:
    """A `hosts.toml` for each registry, for containerd without k3s."""
    return tuple(
        OutputPart(f"{hosts.directory}/{HOSTS_FILE}", hosts.registry, hosts.render(Mark(instance, made_directory=True)))
        for hosts in plan(config, proxies)
    )


def node_diff(old: str, new: str, file: str) -> str:
    """The old and the new file of the node as a unified diff, secrets masked. Raises ConfigError."""
    before, after = masked(old, file).splitlines(), new.splitlines()
    return "".join(f"{line}\n" for line in difflib.unified_diff(before, after, file, f"{file} (new)", lineterm=""))


def conflicting_files(directory: Path, written: Iterable[OutputPart]) -> list[Path]:
    """Files that exist already with different content."""
    paths = [(directory / part.name, part.text) for part in written]
    return [path for path, text in paths if os.path.lexists(path) and not _has_text(path, text)]


def write(directory: Path, part: OutputPart) -> Path:
    """Write one part atomically; raises OSError."""
    path = directory / part.name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, part.mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(part.text)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _has_text(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
