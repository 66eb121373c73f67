"""YAML nodes to plain values, with the place of every key and value."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from proxy.config.errors import ConfigError, Position, Problem
from proxy.config.naming import quoted_key
from proxy.config.positions import KeyPath, Place, Positions
from proxy.config.yaml_nodes import MAX_DEPTH, MAX_NODES, compose, position

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

_Pair = tuple[Node, Node]

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")


@dataclass(slots=True)
class Document:
    """What a file says, and where; `problems` and `duplicates` are what is wrong with its keys."""

    file: str
    value: Value = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    duplicates: list[Problem] = field(default_factory=list)

    @property
    def positions(self) -> Positions:
        """Where each key and value stands."""
        return Positions(self.file, self.places)


def read_document(
    text: str, file: str, *, version: Literal["1.1", "1.2"] = "1.2", keep: Literal["first", "last"] = "first"
) -> Document:
    """Read one YAML document; scalars of version 1.1 stay text (plain bool and null excepted); raises ConfigError."""
    root = compose(text, file, version)
    document = Document(file)
    if root is not None:
        scalar = scalar_1_2 if version == "1.2" else scalar_1_1
        document.value = _Builder(document, scalar, keep).build(root, ())
    return document


@dataclass(slots=True)
class _Builder:
    document: Document
    scalar: Callable[[ScalarNode], Value]
    keep: Literal["first", "last"]
    built: int = 0
    open: set[int] = field(default_factory=set)

    def build(self, node: Node, path: KeyPath) -> Value:
        """The value of a node; aliases are built anew each time, and counted."""
        where = position(self.document.file, node.start_mark)
        self._count(where)
        if isinstance(node, ScalarNode):
            return self._scalar(node, where)
        if id(node) in self.open or len(path) > MAX_DEPTH:
            raise ConfigError([Problem(where, f"aliases stand inside of each other, or more than {MAX_DEPTH} deep")])
        self.open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, MappingNode) else self._sequence(node, path)
        self.open.discard(id(node))
        return value

    def _count(self, where: Position) -> None:
        self.built += 1
        if self.built > MAX_NODES:
            raise ConfigError([Problem(where, f"aliases make this more than {MAX_NODES} keys and values")])

    def _scalar(self, node: ScalarNode, where: Position) -> Value:
        try:
            return self.scalar(node)
        except ValueError as error:
            self.document.problems.append(Problem(where, str(error)))
            return None

    def _sequence(self, node: Node, path: KeyPath) -> Value:
        values: list[Value] = []
        for index, item in enumerate(node.value):
            where = position(self.document.file, item.start_mark)
            self.document.places[*path, index] = Place(where, where)
            values.append(self.build(item, (*path, index)))
        return values

    def _mapping(self, node: MappingNode, path: KeyPath) -> Value:
        values: dict[str, Value] = {}
        for key, (key_node, value_node) in self._chosen(node).items():
            where = position(self.document.file, key_node.start_mark)
            value = position(self.document.file, value_node.start_mark) if _is_inline(value_node) else where
            self.document.places[*path, key] = Place(where, value)
            values[key] = self.build(value_node, (*path, key))
        return values

    def _chosen(self, node: MappingNode) -> dict[str, _Pair]:
        """The pairs of a mapping by key; of duplicates, which are reported, the first or the last."""
        chosen: dict[str, _Pair] = {}
        for key_node, value_node in self._pairs(node):
            where = position(self.document.file, key_node.start_mark)
            if not isinstance(key_node, ScalarNode):
                self.document.problems.append(Problem(where, "a key must be plain text"))
                continue
            key = str(key_node.value)
            if key in chosen:
                line = chosen[key][0].start_mark.line + 1
                message = f"the key {quoted_key(key)} stands twice (also in line {line}): remove one"
                self.document.duplicates.append(Problem(where, message))
            if key not in chosen or self.keep == "last":
                chosen[key] = (key_node, value_node)
        return chosen

    def _pairs(self, node: MappingNode) -> Iterator[_Pair]:
        """The pairs as written; a merge key (`<<`) adds those keys that the mapping does not have itself."""
        own = [(key, value) for key, value in node.value if key.tag != _MERGE]
        yield from own
        known = {key.value for key, _ in own if isinstance(key, ScalarNode)}
        for key, value in node.value:
            if key.tag == _MERGE:
                yield from self._merged(value, known)

    def _merged(self, merge: Node, known: set[str]) -> Iterator[_Pair]:
        for source in merge.value if isinstance(merge, SequenceNode) else [merge]:
            if not isinstance(source, MappingNode):
                where = position(self.document.file, source.start_mark)
                self.document.problems.append(Problem(where, "a merge key (<<) takes an alias of a mapping"))
                continue
            for key, value in source.value:
                self._count(position(self.document.file, key.start_mark))
                if isinstance(key, ScalarNode) and key.tag != _MERGE and key.value not in known:
                    known.add(key.value)
                    yield key, value


def _is_inline(node: Node) -> bool:
    """Whether a value begins behind its key: an empty one and a block begin somewhere below."""
    if isinstance(node, ScalarNode):
        return node.value != "" or node.style is not None
    return bool(getattr(node, "flow_style", False))


def scalar_1_2(node: ScalarNode) -> Value:
    """A scalar of our own configuration; raises ValueError for a tag of a program's own."""
    kind = str(node.tag).removeprefix(_TAG)
    text = str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)  # a %YAML 1.1 line would make yes a boolean
    if kind in {"int", "float"}:
        return int(text) if _INTEGER.fullmatch(text) else 0.5  # any number that is no integer is wrong everywhere
    if kind in {"str", "timestamp"}:
        return text
    raise ValueError("a tag (!...) has no meaning here: put the value in quotes")


def scalar_1_1(node: ScalarNode) -> Value:
    """A scalar as Go's yaml.v2 puts it into a text field: numbers and words stay what is written."""
    plain = node.style is None
    text = str(node.value)
    if plain and text in {"", "~", "null", "Null", "NULL"}:
        return None
    if plain and text.lower() in _BOOLEANS:
        return PlainWord(text)
    return text


_BOOLEANS = {"y": True, "yes": True, "on": True, "true": True, "n": False, "no": False, "off": False, "false": False}


class PlainWord(str):
    """Text that YAML 1.1 also reads as a boolean, when it stands without quotes."""

    __slots__ = ()

    @property
    def boolean(self) -> bool:
        """The boolean."""
        return _BOOLEANS[self.lower()]
