"""From YAML text to plain values, with bounds and positions; an error never repeats a value."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, DocumentStartEvent, NodeEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from proxy.config.errors import ConfigError, KeyPath, Place, Position, Positions, Problem, quoted_key

MAX_DEPTH = 32
"""Maximum nesting of mappings and lists."""
MAX_NODES = 50_000
"""Maximum number of keys and values in a file; an alias counts as everything that it refers to."""

_ADVICE = (
    ("'\\t' that cannot start", "YAML does not allow tabs as indentation: use spaces"),
    ("that cannot start any token", "a value cannot begin with this character: put the value in quotes"),
    ("another document", "a second document begins here: one file holds one document"),
    ("undefined alias", "a plain * refers to an anchor that does not exist: put the value in quotes"),
    ("mapping values are not allowed", 'a second ": " in one line: put the value in quotes, or check the indentation'),
    ("could not find expected ':'", "a key without a colon, or a line with wrong indentation: check this line"),
    ("end of stream", "the quotes are never closed"),
    ("expected ',' or", "a comma or the closing bracket is missing"),
    ("<block end>", "the indentation does not match the lines above"),
    ("unknown escape", "an unknown escape in double quotes: use single quotes for regular expressions"),
)


def compose(text: str, file: str, version: Literal["1.1", "1.2"]) -> Node | None:
    """The root node of a document; None if it is empty. Raises ConfigError."""
    try:
        _check_bounds(text, file, version)
        node: Node | None = _yaml(version).compose(text)
    except ReaderError:
        raise _error(Position(file), "the file contains a control character, which YAML does not allow") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _error(position(file, mark), _advice(error)) from None
    # Bugs of the parser on unusual input (ValueError for \UFFFFFFFF, AttributeError for a broken directive, ...)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError):
        raise _error(Position(file), "this is not YAML") from None
    return node


def position(file: str, mark: StreamMark | None) -> Position:
    """The position of a mark of the parser, which counts from 0."""
    return Position(file) if mark is None else Position(file, mark.line + 1, mark.column + 1)


def _yaml(version: str) -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = version
    return yaml


def _check_bounds(text: str, file: str, version: str) -> None:
    """Reject a document that is too deep or too large, before recursive code reads it."""
    depth = nodes = documents = 0
    anchors: set[str] = set()
    for event in _yaml(version).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        nodes += isinstance(event, NodeEvent)
        documents += isinstance(event, DocumentStartEvent)
        where = position(file, event.start_mark)
        anchor = None if isinstance(event, AliasEvent) else getattr(event, "anchor", None)
        if anchor in anchors:  # allowed in YAML, but the parser would print the lines, secrets included, as a warning
            raise _error(where, "an anchor (&) with this name exists already: use another name")
        if anchor is not None:
            anchors.add(anchor)
        if depth > MAX_DEPTH:
            raise _error(where, f"nested more than {MAX_DEPTH} deep")
        if nodes > MAX_NODES:
            raise _error(where, f"more than {MAX_NODES} keys and values")
        if documents > 1:
            raise _error(where, "a second document begins here: one file holds one document")


def _advice(error: MarkedYAMLError) -> str:
    # The parser's message may quote a part of the file, and with it a password.
    found = f"{error.problem} {error.context}"
    return next((advice for sign, advice in _ADVICE if sign in found), "this is not valid YAML")


def _error(where: Position, message: str) -> ConfigError:
    return ConfigError([Problem(where, message)])


Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

_Pair = tuple[Node, Node]

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,18}(?:\.[0-9]{0,18})?(?:[eE][-+]?[0-9]{1,2})?")


@dataclass(slots=True)
class Document:
    """The value of a document and the positions in it; `problems` and `duplicates` are errors in its keys and tags."""

    file: str
    value: Value = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    duplicates: list[Problem] = field(default_factory=list)

    @property
    def positions(self) -> Positions:
        """The position of each key and value."""
        return Positions(self.file, self.places)


def read_document(
    text: str, file: str, *, version: Literal["1.1", "1.2"] = "1.2", keep: Literal["first", "last"] = "first"
) -> Document:
    """Read one YAML document; raises ConfigError. Scalars of version 1.1 remain text, except null and booleans."""
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
        """The value of a node; an alias is built, and counted, each time."""
        where = position(self.document.file, node.start_mark)
        self._count(where)
        if isinstance(node, ScalarNode):
            return self._scalar(node, where)
        if id(node) in self.open or len(path) > MAX_DEPTH:
            raise ConfigError([Problem(where, f"aliases contain each other, or are more than {MAX_DEPTH} deep")])
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
        """The pairs of a mapping by key; of duplicates, which are reported, the first or the last one."""
        chosen: dict[str, _Pair] = {}
        for key_node, value_node in self._pairs(node):
            where = position(self.document.file, key_node.start_mark)
            if not isinstance(key_node, ScalarNode):
                self.document.problems.append(Problem(where, "a key must be plain text"))
                continue
            key = str(key_node.value)
            if key in chosen:
                line = chosen[key][0].start_mark.line + 1
                message = f"duplicate key {quoted_key(key)} (also in line {line}): remove one"
                self.document.duplicates.append(Problem(where, message))
            if key not in chosen or self.keep == "last":
                chosen[key] = (key_node, value_node)
        return chosen

    def _pairs(self, node: MappingNode) -> Iterator[_Pair]:
        """The pairs in order; a merge key (`<<`) adds the keys that the mapping itself does not have."""
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
                self.document.problems.append(Problem(where, "a merge key (<<) needs an alias of a mapping"))
                continue
            for key, value in source.value:
                self._count(position(self.document.file, key.start_mark))
                if isinstance(key, ScalarNode) and key.tag != _MERGE and key.value not in known:
                    known.add(key.value)
                    yield key, value


def _is_inline(node: Node) -> bool:
    """Whether a value begins in the line of its key, unlike an empty value or a block."""
    if isinstance(node, ScalarNode):
        return node.value != "" or node.style is not None
    return bool(getattr(node, "flow_style", False))


def scalar_1_2(node: ScalarNode) -> Value:
    """A scalar of a configuration; raises ValueError for an application-specific tag."""
    kind = str(node.tag).removeprefix(_TAG)
    text = str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)  # a %YAML 1.1 line would make yes a boolean
    if kind in {"int", "float"}:
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _DECIMAL.fullmatch(text) else math.nan  # NaN is invalid for every setting
    if kind in {"str", "timestamp"}:
        return text
    raise ValueError("a tag (!...) is not supported: put the value in quotes")


def scalar_1_1(node: ScalarNode) -> Value:
    """A scalar as Go's yaml.v2 reads it into a string field: numbers and words remain as written."""
    plain = node.style is None
    text = str(node.value)
    if plain and text in {"", "~", "null", "Null", "NULL"}:
        return None
    if plain and text.lower() in _BOOLEANS:
        return PlainWord(text)
    return text


_BOOLEANS = {"y": True, "yes": True, "on": True, "true": True, "n": False, "no": False, "off": False, "false": False}


class PlainWord(str):
    """Text without quotes that YAML 1.1 also reads as a boolean."""

    __slots__ = ()

    @property
    def boolean(self) -> bool:
        """The boolean."""
        return _BOOLEANS[self.lower()]
