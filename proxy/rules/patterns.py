"""Patterns of names and repositories, and sample repositories that match a rule's pattern, to compare rules."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

_IN_NAMES = {"*": ".*?"}
_IN_REPOSITORIES = {"/**": "(?:/.*)?", "**": ".*", "*": "[^/]*"}
"""The wildcards of each dialect and what they stand for, the longest first; all else in a pattern is literal text."""
_FEW_WILDCARDS = 2
"""Up to so many, a regular expression is fast; each more would multiply its time by the length of the name."""
_SLASH = "/?"
"""The slash of `/**`, which may be missing together with what follows."""


def covers(pattern: str, name: str) -> bool:
    """Whether a pattern of names (registries, clients, certificates) matches a name: `*` is any text, slashes included.

    Takes time in proportion to the name: a client may have chosen it.
    """
    return _compile(pattern, is_repository=False).fullmatch(name) is not None


def covers_repository(pattern: str, repository: str) -> bool:
    """Whether a pattern of repositories matches one: unlike in names, `*` is one segment, and `**` is any number.

    `a/**` matches `a` as well. Takes time in proportion to both lengths: whoever can read the status page may choose
    the pattern, and a client the repository.
    """
    if pattern.count("*") - pattern.count("**") <= _FEW_WILDCARDS:
        return _compile(pattern, is_repository=True).fullmatch(repository) is not None
    return _matches(_steps(pattern), repository)


def specificity(pattern: str) -> int:
    """How many characters of a pattern are literal."""
    return len(pattern.replace("*", ""))


@lru_cache(maxsize=4096)
def _compile(pattern: str, *, is_repository: bool) -> re.Pattern[str]:
    wildcards = _IN_REPOSITORIES if is_repository else _IN_NAMES
    first, *rest = re.split(f"({'|'.join(map(re.escape, wildcards))})", pattern)
    pieces = [wildcards[sign] + re.escape(literal) for sign, literal in zip(rest[::2], rest[1::2], strict=True)]
    if not is_repository:  # the first place of a literal is as good as any later one, so nothing is tried twice
        pieces[:-1] = [f"(?>{piece})" for piece in pieces[:-1]]
    return re.compile(re.escape(first) + "".join(pieces), re.DOTALL)


@lru_cache(maxsize=1024)
def _steps(pattern: str) -> tuple[str, ...]:
    """A pattern of repositories as literal characters and wildcards, with `/**` as two steps."""
    found: list[str] = []
    for literal, wildcard in re.findall(r"([^*/]|/(?!\*\*))|(/\*\*|\*\*|\*)", pattern):
        found += [literal] if literal else [_SLASH, "**"] if wildcard == "/**" else [wildcard]
    return tuple(found)


def _matches(steps: Sequence[str], text: str) -> bool:
    """Whether the steps match a text: follows all positions that they can be at, and tries none twice."""
    positions = _reached(steps, [0])
    for character in text:
        following = []
        for position in positions:
            step = steps[position] if position < len(steps) else ""
            if step == "**" or (step == "*" and character != "/"):
                following.append(position)
            elif step == character or (step == _SLASH and character == "/"):
                following.append(position + 1)
        positions = _reached(steps, following)
    return len(steps) in positions


def _reached(steps: Sequence[str], positions: Iterable[int]) -> set[int]:
    """The positions, and those that wildcards lead to by matching nothing."""
    found: set[int] = set()
    for position in positions:
        current = position
        while current not in found:
            found.add(current)
            step = steps[current] if current < len(steps) else ""
            current += {_SLASH: 2, "**": 1, "*": 1}.get(step, 0)
    return found


COMMON = ("library/alpine", "alpine", "rancher/mirrored-pause", "org/team/app")
"""Typical repositories."""

_STEPS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\(\?[a-zA-Z]*:|\(\?P?<\w+>|\(\?[a-zA-Z-]+\)"), "("),
    (re.compile(r"\[([.\w/-])\]"), r"\1"),
    (re.compile(r"\[[^\]]*\][*+?]*(\{[0-9,]*\})?\??"), "x"),
    (re.compile(r"\\d[*+?]*"), "1"),
    (re.compile(r"\\w[*+?]*"), "x"),
    (re.compile(r"\\[bBAzQE]"), ""),
    (re.compile(r"\\(.)"), r"\1"),
    (re.compile(r"\|[^()]*"), ""),
    (re.compile(r"[()^$*+?]|\{[0-9,]*\}"), ""),
)
_DOT = re.compile(r"\.[*+]\??")


def samples(pattern: str) -> tuple[str, ...]:
    """Repositories made from the literal parts of a pattern; they do not always match it."""
    made = dict.fromkeys(_plain(_DOT.sub(filling, pattern)) for filling in ("app", "team/app"))
    return tuple(sample for sample in made if sample)


def all_samples(patterns: Iterable[str]) -> tuple[str, ...]:
    """The samples of several patterns, and the typical repositories."""
    made = [sample for pattern in patterns for sample in samples(pattern)]
    return tuple(dict.fromkeys([*COMMON, *made]))


def _plain(pattern: str) -> str:
    for sign, text in _STEPS:
        pattern = sign.sub(text, pattern)
    return pattern.strip("/")
