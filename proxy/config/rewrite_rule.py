"""One rewrite rule, with exactly the semantics of Go's `regexp.ReplaceAllString` (what k3s and containerd use)."""

from dataclasses import dataclass, field
from typing import Protocol, Self

from proxy.config.rewrite_syntax import explain_pattern_error, is_text, refusal
from proxy.config.rewrite_template import Part, Reference, parse_template

MAX_LENGTH = 2048
"""Characters of a pattern and of a replacement."""
MAX_MEMORY = 1 << 20
"""Bytes that the engine may use for one pattern."""


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
    """A compiled pattern and its replacement; applies to a repository, without registry, tag and digest."""

    pattern: str
    replacement: str
    _engine: _Engine = field(repr=False, compare=False)
    _template: tuple[Part, ...] = field(repr=False, compare=False)

    @classmethod
    def compile(cls, pattern: str, replacement: str) -> Self:
        """Compile a rule; raises ValueError with what is wrong in the pattern and what to do."""
        if max(len(pattern), len(replacement)) > MAX_LENGTH:
            raise ValueError(f"a pattern and a replacement have at most {MAX_LENGTH} characters")
        if not (is_text(pattern) and is_text(replacement)):
            raise ValueError("half of a surrogate pair is no character")
        return cls(pattern, replacement, _compile(pattern), parse_template(replacement))

    def apply(self, repository: str) -> str:
        """Replace every match, as Go does; raw, so duplicate slashes are still there (see `join_path`)."""
        pieces: list[str] = []
        copied = position = 0
        while position <= len(repository):
            match = self._engine.search(repository, position)
            if match is None:
                break
            start, end = match.start(), match.end()
            pieces.append(repository[copied:start])
            # An empty match right behind the last match is not replaced: Python's re.sub would.
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
        """References to groups that the pattern does not have: they are replaced by nothing."""
        return tuple(reference for reference in self.references if self._group(reference) is None)

    @property
    def group_count(self) -> int:
        """How many groups the pattern captures."""
        return self._engine.groups

    def matches(self, repository: str) -> bool:
        """Whether the pattern is found anywhere in the repository."""
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
    """The path as Go's `path.Join` puts it behind `/v2`: no empty, `.` or `..` segments, none at the ends.

    A `..` takes the segment before it away and never leads above the start.
    """
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return "/".join(segments)


def _compile(pattern: str) -> _Engine:
    import re2  # noqa: PLC0415 - the engine is large, and loaded with the first rule

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
