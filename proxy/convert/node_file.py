"""The node's new `registries.yaml`: the old one, edited line by line, so that the comments that still apply stay."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode

from proxy.config.errors import ConfigError
from proxy.config.registries_keys import right_name
from proxy.config.registries_node import ca_lines, endpoint_lines, node_settings, render_node, yaml_key
from proxy.config.yaml_nodes import compose
from proxy.config.yaml_values import read_document
from proxy.convert.node_lines import LineEntry, entries, is_block, is_plain

HEADER = "# Pulls go through scope-proxy: rewrites and credentials are in its configuration."
_ADDED = "# Pulled directly until now, with the credentials or certificates that stood under configs."


@dataclass(frozen=True, slots=True)
class NodeFile:
    """What the file has to say."""

    names: Sequence[str]
    """The registries that are asked for at the proxy, as the proxy's configuration has them."""
    proxies: Sequence[str]
    ca_file: str | None
    kept: Collection[str]
    """Mirrors without an endpoint that stay as they are: k3s's embedded registry is switched on by them."""
    secrets: Collection[str]
    """Values that a comment may not repeat."""

    def edit(self, text: str, file: str) -> str:
        """The old file's text, changed; written anew where an edit would not give exactly what is wanted."""
        edited = self._edited(text, file)
        if edited is not None and self._is_right(edited):
            return edited
        return f"{HEADER}\n{self._kept_text()}"

    def _edited(self, text: str, file: str) -> str | None:
        root = compose(text, file, "1.1")
        if not (isinstance(root, MappingNode) and is_block(root) and is_plain(root)):
            return None
        edited = _Editor(self, text.splitlines()).root(root)
        return "\n".join([HEADER, *filter(self._is_harmless, edited), ""])

    def _is_harmless(self, line: str) -> bool:
        return "#" not in line or not any(secret in line for secret in self.secrets if secret)

    def _is_right(self, text: str) -> bool:
        try:
            value = read_document(text, "", version="1.1").value
        except ConfigError:
            return False
        mirrors = value.get("mirrors") if isinstance(value, dict) else None
        if isinstance(mirrors, dict):
            for name in self.kept:
                mirrors.pop(name, None)
        return value == node_settings(self.names, self.proxies, self.ca_file)

    def _kept_text(self) -> str:
        text = render_node(self.names, self.proxies, self.ca_file)
        kept = "".join(f"  {yaml_key(name)}:\n" for name in self.kept)
        return (
            text.replace("mirrors: {}\n", "mirrors:\n").replace("mirrors:\n", f"mirrors:\n{kept}", 1) if kept else text
        )


@dataclass(frozen=True, slots=True)
class _Editor:
    """Edits the lines of one file."""

    new: NodeFile
    lines: list[str]

    def root(self, root: MappingNode) -> list[str]:
        """The whole file: of its sections only the mirrors stay."""
        edited: list[str] = []
        sections = list(entries(self.lines, root, 0))
        for section in sections:
            if section.name == "mirrors":
                edited += [*section.gap, *self._mirrors(section)]
            else:
                edited += _before(section.gap, is_first=section is sections[0])
        if sections[-1].name == "mirrors":
            edited += self.lines[sections[-1].end :]
        return [*_trimmed(edited), *ca_lines(self.new.proxies, self.new.ca_file)]

    def _mirrors(self, section: LineEntry) -> list[str]:
        edited = [section.lines[0]]
        mirrors = section.entries(self.lines)
        known = {mirror.name for mirror in mirrors}
        for mirror in mirrors:
            right = mirror.name if mirror.name in self.new.names else right_name(mirror.name)
            if mirror.name in self.new.kept:
                edited += [*mirror.gap, *mirror.lines]
            elif right is not None and right in self.new.names and (right == mirror.name or right not in known):
                known.add(right)
                edited += [*mirror.gap, *self._mirror(mirror, right)]
            else:
                edited += _before(mirror.gap)
        indent = " " * (mirrors[0].column if mirrors else section.column + 2)
        for name in self.new.names:
            if name not in known:
                edited += [f"{indent}{_ADDED}", f"{indent}{yaml_key(name)}:"]
                edited += endpoint_lines(f"{indent}  ", self.new.proxies)
        return edited

    def _mirror(self, mirror: LineEntry, name: str) -> list[str]:
        """One mirror: its key and endpoints with their comments; everything else goes."""
        inner = mirror.entries(self.lines)
        old = next((entry for entry in inner if entry.name == "endpoint"), None)
        indent = " " * (inner[0].column if inner else mirror.column + 2)
        gap = () if old is None else old.gap
        comment = "" if old is None or not is_block(old.value) else old.comment  # else it is about the old address
        head = mirror.head if name == mirror.name else f"{' ' * mirror.column}{yaml_key(name)}:"
        return [f"{head}{mirror.comment}", *gap, *endpoint_lines(indent, self.new.proxies, comment)]


def _before(gap: tuple[str, ...], *, is_first: bool = False) -> tuple[str, ...]:
    """What of the lines before an entry stays when it goes: not the comment directly above it.

    The comment at the top of a file is about the whole file.
    """
    empty = [number for number, line in enumerate(gap) if not line.strip()]
    if not empty:
        return gap if is_first else ()
    return gap[: empty[-1] + 1]


def _trimmed(lines: list[str]) -> list[str]:
    """Without empty lines at the end."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines
