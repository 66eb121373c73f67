"""The node's new `registries.yaml`: the old one, edited line by line, so that the comments that still apply stay."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from proxy.config.errors import ConfigError
from proxy.config.reading.yaml_values import compose, read_document
from proxy.k3s.reader import right_name
from proxy.nodes.node_config import ca_lines, endpoint_lines, node_settings, render_node, yaml_key


@dataclass(frozen=True, slots=True)
class LineEntry:
    """One key of a mapping in block style, with the lines that belong to it."""

    name: str
    key: Node
    value: Node
    gap: tuple[str, ...]
    """The lines between the entry before it and this one: comments and empty ones."""
    lines: tuple[str, ...]

    @property
    def head(self) -> str:
        """The line of the key up to its colon."""
        return f"{self.lines[0][: self.key.end_mark.column]}:"

    @property
    def comment(self) -> str:
        """The comment behind the key, or behind a value that stands on the same line."""
        start = (
            self.value.start_mark.line == self.key.start_mark.line
            and not is_block(self.value)
            and not _is_empty(self.value)
        )
        mark = self.value.end_mark if start else self.key.end_mark
        if mark.line != self.key.start_mark.line:
            return ""
        rest = self.lines[0][mark.column :]
        rest = rest if start else rest.lstrip().removeprefix(":")
        return f"  {rest.strip()}" if rest.strip().startswith("#") else ""

    @property
    def column(self) -> int:
        """How far the key is indented."""
        return int(self.key.start_mark.column)

    @property
    def block(self) -> MappingNode | None:
        """The value, if it is a mapping in block style."""
        return self.value if isinstance(self.value, MappingNode) and is_block(self.value) else None

    def entries(self, lines: list[str]) -> list["LineEntry"]:
        """The entries of its own; none where the value is not a mapping in block style."""
        return [] if self.block is None else list(entries(lines, self.block, self.key.start_mark.line + 1))

    @property
    def end(self) -> int:
        """The line behind the last one."""
        return int(self.key.start_mark.line) + len(self.lines)


def is_block(node: Node) -> bool:
    """Whether a node is a mapping or list that stands on lines of its own."""
    return isinstance(node, CollectionNode) and not node.flow_style


def entries(lines: list[str], mapping: MappingNode, first: int) -> Iterator[LineEntry]:
    """The entries of a mapping in block style; `first` is the line at which its first gap begins."""
    for key, value in mapping.value:
        start, end = key.start_mark.line, max(last_line(value), key.end_mark.line)
        yield LineEntry(str(key.value), key, value, tuple(lines[first:start]), tuple(lines[start : end + 1]))
        first = end + 1


def last_line(node: Node) -> int:
    """The last line on which something of a node stands; -1 for a value that is left out."""
    if _is_empty(node):
        return -1
    if is_block(node) and node.value:
        last = node.value[-1]
        return max(last_line(part) for part in (last if isinstance(last, tuple) else (last,)))
    # A block scalar, and a mapping in block style, end where the next token begins.
    ends_before = node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line
    return int(node.end_mark.line) - int(ends_before)


def is_plain(node: Node) -> bool:
    """Whether a document has no anchors, merge keys and keys that are no text: what an edit of lines would break."""
    if getattr(node, "anchor", None) is not None:
        return False
    if isinstance(node, MappingNode):
        names = [key.value for key, _ in node.value if isinstance(key, ScalarNode)]
        if len(names) != len(node.value) or len(set(names)) != len(names) or "<<" in names:
            return False
        return all(is_plain(part) for pair in node.value for part in pair)
    return isinstance(node, ScalarNode) or all(is_plain(item) for item in node.value)


def _is_empty(node: Node) -> bool:
    """Whether a value is left out; its place is that of the next token."""
    return isinstance(node, ScalarNode) and not node.value and node.style is None


HIDDEN = "<secret>"
"""The placeholder of a secret."""
_SECTIONS = {"auth", "auths"}
_SECRETS = {"password", "auth", "identity_token", "identitytoken", "token", "registrytoken"}
_OPEN = {"username"}


def secret_values(text: str, file: str) -> set[str]:
    """Every secret value; raises ConfigError."""
    return {str(node.value) for node in _found(text, file) if node.value}


def masked(text: str, file: str) -> str:
    """The file with its secrets hidden, wherever they stand in it; raises ConfigError."""
    lines = text.splitlines()
    nodes = list(_found(text, file))
    for node in sorted(nodes, key=lambda node: (node.start_mark.line, node.start_mark.column), reverse=True):
        first, last = node.start_mark.line, last_line(node)
        after = lines[last][node.end_mark.column :] if last == node.end_mark.line else ""
        lines[first : last + 1] = [f"{lines[first][: node.start_mark.column]}{HIDDEN}{after}"]
    result = "\n".join([*lines, ""])
    for value in sorted({str(node.value) for node in nodes if node.value}, key=len, reverse=True):
        result = result.replace(value, HIDDEN)  # in comments
    return result


def _found(text: str, file: str) -> Iterator[ScalarNode]:
    root = compose(text, file, "1.1")
    found = {id(node): node for node in ([] if root is None else _secrets(root, is_inside=False))}
    yield from found.values()  # an alias is the node that it stands for


def _secrets(node: Node, *, is_inside: bool) -> Iterator[ScalarNode]:
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from _secrets(item, is_inside=is_inside)
        return
    for key, value in node.value if isinstance(node, MappingNode) else ():
        name = str(key.value).lower()
        if not isinstance(value, ScalarNode):
            yield from _secrets(value, is_inside=is_inside or name in _SECTIONS)
        elif name in _SECRETS or (is_inside and name not in _OPEN):
            yield value


HEADER = "# Pulls go through scope-proxy: rewrites and credentials are in its configuration."
_ADDED = "# Pulled directly until now, with the credentials or certificates under configs."


@dataclass(frozen=True, slots=True)
class NodeFile:
    """The wanted content of the file."""

    names: Sequence[str]
    """The registries that nodes pull through the proxy, as in the proxy's configuration."""
    proxies: Sequence[str]
    ca_file: str | None
    kept: Collection[str]
    """Mirrors without an endpoint that stay as they are: they enable k3s's embedded registry."""
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
