"""The lines of a YAML file, by what stands on them: so that a file can be edited and keep its comments."""

from collections.abc import Iterator
from dataclasses import dataclass

from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode


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
