"""The inverse of a rewrite rule: the names from which the rule may have made a given name.

The results are candidates: apply the rule to each of them to see whether it makes the name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from proxy.rules.rewrite_rule import Reference, RewriteRule, parse_template

MAX_STEPS = 500
"""Maximum attempts to split one name into the parts of a rule."""

_BEFORE, _WHOLE, _AFTER = -1, 0, -2
"""Numbers for the text before a match of a pattern without anchors, for the match itself, and for the text after it."""

_Part = str | int
"""Literal text, or the number of a group."""

_GROUP = re.compile(r"\((?!\?)|\(\?P?<(\w+)>")
_CLASS = re.compile(r"\[\^?\]?(?:\[:\w+:\]|\\.|[^]\\])*\]")
_QUANTIFIERS = frozenset("*+?{")
_NOT_LITERAL = frozenset("*+?{}[]|^$)")


@dataclass(frozen=True, slots=True)
class Inverse:
    """The parts of a name before a rule is applied, and after."""

    before: tuple[_Part, ...]
    after: tuple[_Part, ...]

    @classmethod
    def of(cls, rule: RewriteRule) -> Self | None:
        """The inverse of a rule; None if its replacement loses a part of the name."""
        shape = _read(rule.pattern)
        after = [_part(part, shape.names) for part in parse_template(rule.replacement)]
        before: tuple[_Part, ...] = (_WHOLE,) if _WHOLE in after else shape.parts
        if _groups(before) != _groups(after):
            return None  # the text of a group is lost
        head, tail = (() if shape.at_start else (_BEFORE,)), (() if shape.at_end else (_AFTER,))
        return cls((*head, *before, *tail), (*head, *after, *tail))

    def candidates(self, name: str) -> Iterator[str]:
        """Names from which the rule may have made this one, the most likely first."""
        for text in (name, f"/{name}"):  # a slash at the start of a replacement is dropped
            for groups in _fits(self.after, text):
                yield "".join(part if isinstance(part, str) else groups[part] for part in self.before)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A pattern as text and groups, and the numbers of named groups."""

    parts: tuple[_Part, ...]
    names: Mapping[str, int]
    at_start: bool
    at_end: bool


def _read(pattern: str) -> _Shape:
    """The shape of a pattern; one part for the whole match if the pattern has operators outside its groups."""
    at_start, at_end = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    rest = pattern.removeprefix("^")
    rest = rest[:-1] if at_end else rest
    parts: list[_Part] = []
    names: dict[str, int] = {}
    number = 1
    while rest:
        length = _length(rest)
        piece, rest = rest[:length], rest[length:]
        if not length or rest[:1] in _QUANTIFIERS:
            return _Shape((_WHOLE,), {}, at_start, at_end)
        match = _GROUP.match(piece)
        parts.append(piece.removeprefix("\\") if match is None else number)
        if match is not None:
            names |= {match[1]: number} if match[1] else {}
            number += _count(piece)
    return _Shape(tuple(parts), names, at_start, at_end)


def _length(text: str) -> int:
    """The length of the first piece: a capturing group or one character of text; 0 for anything else."""
    if text[0] == "(":
        return _group_length(text) if _GROUP.match(text) else 0
    if text[0] == "\\":
        return 2 if len(text) > 1 and not text[1].isalnum() else 0
    return 0 if text[0] in _NOT_LITERAL else 1


def _group_length(text: str) -> int:
    """The length of the group at the start, including its brackets; 0 if it does not end."""
    return next((end for end, depth, _ in _brackets(text) if depth == 0), 0)


def _count(group: str) -> int:
    """The number of capturing groups in a group, including itself."""
    return sum(captures for _, _, captures in _brackets(group))


def _brackets(text: str) -> Iterator[tuple[int, int, bool]]:
    """Every unescaped round bracket: its end, the depth after it, and whether it opens a capturing group."""
    position = depth = 0
    while position < len(text):
        character = text[position]
        if character == "[" and (match := _CLASS.match(text, position)) is not None:
            position = match.end()
            continue
        if character == "(":
            depth += 1
            yield position + 1, depth, _GROUP.match(text, position) is not None
        elif character == ")":
            depth -= 1
            yield position + 1, depth, False
        position += 2 if character == "\\" else 1


def _part(part: str | Reference, names: Mapping[str, int]) -> _Part:
    """A part of a replacement; a group that the pattern does not have is empty, as in Go."""
    if isinstance(part, str):
        return re.sub("/{2,}", "/", part)
    return part.number if part.number is not None else names.get(part.name, "")


def _groups(parts: tuple[_Part, ...] | list[_Part]) -> set[int]:
    return {part for part in parts if isinstance(part, int)}


def _fits(parts: tuple[_Part, ...], text: str) -> Iterator[Mapping[int, str]]:
    """Ways to split a text into these parts, long groups first; not all of them if there are very many."""
    ways: list[tuple[int, int, dict[int, str]]] = [(0, 0, {})]
    for _ in range(MAX_STEPS):
        if not ways:
            return
        index, start, groups = ways.pop()
        if index == len(parts):
            if start == len(text):
                yield groups
            continue
        part = parts[index]
        value = part if isinstance(part, str) else groups.get(part)
        if value is not None:
            if text.startswith(value, start):
                ways.append((index + 1, start + len(value), groups))
        else:
            ends = _ends(parts[index + 1 : index + 2], text, start)
            ways += [(index + 1, end, {**groups, int(part): text[start:end]}) for end in ends]


def _ends(following: tuple[_Part, ...], text: str, start: int) -> list[int]:
    """The possible ends of a group that begins at `start`, in ascending order."""
    if not following:
        return [len(text)]
    sign = following[0] if isinstance(following[0], str) else ""
    return [end for end in range(start, len(text) + 1) if text.startswith(sign, end)]
