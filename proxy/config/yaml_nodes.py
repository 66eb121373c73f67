"""YAML text to nodes, bounded, with errors of one kind that repeat no value."""

from typing import Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, DocumentStartEvent, NodeEvent
from ruamel.yaml.nodes import Node
from ruamel.yaml.reader import ReaderError

from proxy.config.errors import ConfigError, Position, Problem

MAX_DEPTH = 32
"""Nesting of mappings and lists."""
MAX_NODES = 50_000
"""Keys and values of a file; an alias counts as all that it stands for."""

_ADVICE = (
    ("'\\t' that cannot start", "a tab cannot indent in YAML: use spaces"),
    ("that cannot start any token", "a value cannot begin with this character: put the value in quotes"),
    ("another document", "a second document begins here: one file holds one document"),
    ("undefined alias", "a plain * refers to an anchor that does not exist: put the value in quotes"),
    ("mapping values are not allowed", 'a second ": " on a line: put the value in quotes, or check the indentation'),
    ("could not find expected ':'", "a key without a colon, or a line with the wrong indentation"),
    ("end of stream", "the quotes are never closed"),
    ("expected ',' or", "a comma or the closing bracket is missing"),
    ("<block end>", "the indentation does not fit the lines above"),
    ("unknown escape", "an unknown escape in double quotes: use single quotes for regular expressions"),
)


def compose(text: str, file: str, version: Literal["1.1", "1.2"]) -> Node | None:
    """The root node of a document, or None if it is empty; raises ConfigError."""
    try:
        _check_bounds(text, file, version)
        node: Node | None = _yaml(version).compose(text)
    except ReaderError:
        raise _error(Position(file), "the file holds a control character, which YAML does not allow") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _error(position(file, mark), _advice(error)) from None
    # The parser's own slips on odd input (ValueError for \UFFFFFFFF, AttributeError for a broken directive, ...)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError):
        raise _error(Position(file), "this is not YAML") from None
    return node


def position(file: str, mark: StreamMark | None) -> Position:
    """The place of a mark of the parser, which counts from 0."""
    return Position(file) if mark is None else Position(file, mark.line + 1, mark.column + 1)


def _yaml(version: str) -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = version
    return yaml


def _check_bounds(text: str, file: str, version: str) -> None:
    """Refuse what would be too deep or too much, before anything recursive sees it."""
    depth = nodes = documents = 0
    anchors: set[str] = set()
    for event in _yaml(version).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        nodes += isinstance(event, NodeEvent)
        documents += isinstance(event, DocumentStartEvent)
        where = position(file, event.start_mark)
        anchor = None if isinstance(event, AliasEvent) else getattr(event, "anchor", None)
        if anchor in anchors:  # allowed in YAML, but the parser would print the lines, secrets included, as a warning
            raise _error(where, "an anchor (&) of this name exists already: give it another name")
        if anchor is not None:
            anchors.add(anchor)
        if depth > MAX_DEPTH:
            raise _error(where, f"nested more than {MAX_DEPTH} deep")
        if nodes > MAX_NODES:
            raise _error(where, f"more than {MAX_NODES} keys and values")
        if documents > 1:
            raise _error(where, "a second document begins here: one file holds one document")


def _advice(error: MarkedYAMLError) -> str:
    # The parser's own words may quote the file, and what it quotes may be a password.
    found = f"{error.problem} {error.context}"
    return next((advice for sign, advice in _ADVICE if sign in found), "this is not valid YAML")


def _error(where: Position, message: str) -> ConfigError:
    return ConfigError([Problem(where, message)])
