"""One rewrite rule, with the semantics of Go's `regexp.ReplaceAllString`, which k3s and containerd use."""

import re
from dataclasses import dataclass, field
from typing import Protocol, Self

_NAMED_GROUP = re.compile(r"\(\?P?<([^>=!]*)>")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_GROUP_NAME = re.compile(r"[A-Za-z0-9_]+")

_CONSTRUCTS = (
    (re.compile(r"\(\?[=!]$"), "look-ahead", "write a rule for the exception before this one"),
    (
        re.compile(r"\(\?<[=!]?$"),
        "look-behind",
        "match the text before it with a group, and refer to the group in the replacement",
    ),
    (re.compile(r"\(\?>$"), "an atomic group", "write (?:...)"),
    (re.compile(r"[*+?}]\+$"), "a possessive quantifier", "remove the second sign"),
    (
        re.compile(r"\(\?P$"),
        "a back-reference by name",
        "a named group is (?P<name>...); a group cannot be matched again",
    ),
    (re.compile(r"\(\?#$"), "a comment in a pattern", "write it as a # comment of the YAML file"),
    (re.compile(r"\\[1-9k]$"), "a back-reference", "a group cannot be matched again: write its pattern once more"),
    (re.compile(r"\\Z$"), r"\Z", "write $ (end of the text)"),
    (re.compile(r"\\[uU]$"), r"\u", r"write the character itself or \x{...}"),
)


def explain_pattern_error(reason: str) -> str:
    """The engine's reason for rejecting a pattern, with the name of the construct and what to do instead."""
    found = reason.rpartition(": ")[2]
    for sign, name, advice in _CONSTRUCTS:
        if sign.search(found):
            return f"the pattern uses {name} ({found}), which Go's regular expressions (RE2) do not have: {advice}"
    return f"the pattern is not a valid Go regular expression (RE2): {reason}"


def refusal(pattern: str) -> str | None:
    """Why a pattern is rejected that the engine accepts: Go rejects it, or interprets it differently."""
    if any(match[1] == "C" for match in _ESCAPE.finditer(pattern)):
        return r"the pattern uses \C (any byte), which Go's regular expressions do not have: write a dot"
    names = _NAMED_GROUP.findall(_ESCAPE.sub("", pattern))
    for name in names:
        if not _GROUP_NAME.fullmatch(name):
            return f"the group name {name!r} may contain only letters, digits and underscores"
        if names.count(name) > 1:
            return f"the group name {name!r} is used twice: each group needs its own name"
    return None


def is_text(value: str) -> bool:
    """Whether a value has no unpaired UTF-16 surrogate, which a YAML escape can produce."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


_ESCAPED_DOLLAR = "$"
_MAX_NUMBER_DIGITS = 8  # Go reads a longer number as a name


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a group in a template."""

    name: str
    braced: bool

    @property
    def number(self) -> int | None:
        """The number of the group; None for a name (in Go, `01` is a name)."""
        plain = self.name.isascii() and self.name.isdigit() and len(self.name) <= _MAX_NUMBER_DIGITS
        return int(self.name) if plain and (self.name[0] != "0" or self.name == "0") else None

    def __str__(self) -> str:
        """The reference as written in the template."""
        return f"${{{self.name}}}" if self.braced else f"${self.name}"


Part = str | Reference


def parse_template(template: str) -> tuple[Part, ...]:
    """Split a template into literal text and references to groups; as in Go, a malformed `$` is literal text."""
    parts: list[Part] = []
    literal = ""
    rest = template
    while rest:
        before, dollar, rest = rest.partition("$")
        literal += before
        if not dollar:
            break
        if rest.startswith(_ESCAPED_DOLLAR):
            literal, rest = literal + _ESCAPED_DOLLAR, rest[1:]
            continue
        reference, length = _read_reference(rest)
        if reference is None:
            literal += "$"
            continue
        parts += [literal, reference] if literal else [reference]
        literal, rest = "", rest[length:]
    return (*parts, literal) if literal else tuple(parts)


def _read_reference(text: str) -> tuple[Reference | None, int]:
    """The reference after a `$` and its length; None if there is no reference."""
    braced = text.startswith("{")
    start = end = 1 if braced else 0
    while end < len(text) and _is_word(text[end]):
        end += 1
    if end == start or (braced and text[end : end + 1] != "}"):
        return None, 0
    return Reference(text[start:end], braced), end + 1 if braced else end


def _is_word(character: str) -> bool:
    return character == "_" or character.isalpha() or character.isdecimal()


MAX_LENGTH = 2048
"""Maximum characters of a pattern, and of a replacement."""
MAX_MEMORY = 1 << 20
"""Maximum bytes of memory for one pattern in the engine."""


class _Match(Protocol):
    def group(self, group: int = ...) -> str | None: ...
    def start(self, group: int = ...) -> int: ...
    def end(self, group: int = ...) -> int: ...


class _Engine(Protocol):
    @property
    def groups(self) -> int: ...
    @property
    def groupindex(self) -> dict[str, int]: ...
    def search(self, text: str, pos: int = ...) -> _Match | None: ...


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """A compiled pattern and its replacement, for repositories without registry, tag and digest."""

    pattern: str
    replacement: str
    _engine: _Engine = field(repr=False, compare=False)
    _template: tuple[Part, ...] = field(repr=False, compare=False)

    @classmethod
    def compile(cls, pattern: str, replacement: str) -> Self:
        """Compile a rule; raises ValueError with the error in the pattern and what to do."""
        if max(len(pattern), len(replacement)) > MAX_LENGTH:
            raise ValueError(f"a pattern and a replacement have at most {MAX_LENGTH} characters")
        if not (is_text(pattern) and is_text(replacement)):
            raise ValueError("unpaired UTF-16 surrogate: write the character itself")
        return cls(pattern, replacement, _compile(pattern), parse_template(replacement))

    def apply(self, repository: str) -> str:
        """Replace every match, as Go does; duplicate slashes remain (see `join_path`)."""
        pieces: list[str] = []
        copied = position = 0
        while position <= len(repository):
            match = self._engine.search(repository, position)
            if match is None:
                break
            start, end = match.start(), match.end()
            pieces.append(repository[copied:start])
            # Unlike in Python's re.sub, an empty match directly after the previous match is not replaced.
            if end > copied or start == 0:
                pieces.append(self._expand(match))
            copied = end
            position = max(end, position + 1)
        return "".join(pieces) + repository[copied:]

    @property
    def literal_prefix(self) -> str:
        """The literal text of the replacement before its first group reference."""
        first = self._template[0] if self._template else ""
        return first if isinstance(first, str) else ""

    @property
    def references(self) -> tuple[Reference, ...]:
        """The groups that the replacement refers to, in order."""
        return tuple(part for part in self._template if isinstance(part, Reference))

    @property
    def unknown_references(self) -> tuple[Reference, ...]:
        """References to groups that the pattern does not have; nothing is inserted for them."""
        return tuple(reference for reference in self.references if self._group(reference) is None)

    @property
    def group_count(self) -> int:
        """The number of capturing groups in the pattern."""
        return self._engine.groups

    def matches(self, repository: str) -> bool:
        """Whether the pattern matches any part of the repository."""
        return self._engine.search(repository) is not None

    def _expand(self, match: _Match) -> str:
        return "".join(part if isinstance(part, str) else self._value(match, part) for part in self._template)

    def _value(self, match: _Match, reference: Reference) -> str:
        group = self._group(reference)
        return "" if group is None else match.group(group) or ""

    def _group(self, reference: Reference) -> int | None:
        number = reference.number
        if number is None:
            return self._engine.groupindex.get(reference.name)
        return number if number <= self._engine.groups else None


def join_path(path: str) -> str:
    """The path as Go's `path.Join` appends it to `/v2`: without empty, `.` and `..` segments.

    A `..` removes the segment before it, if there is one.
    """
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return "/".join(segments)


def _compile(pattern: str) -> _Engine:
    import re2  # noqa: PLC0415 - the engine is large and loaded with the first rule

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    reason = refusal(pattern)
    if reason is not None:
        raise ValueError(reason)
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(explain_pattern_error(_text(error))) from None


def _text(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
