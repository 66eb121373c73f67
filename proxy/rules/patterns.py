"""Patterns of names, and sample repositories that a pattern is likely to match, to try rules on."""

import re
from collections.abc import Iterable


def covers(pattern: str, name: str) -> bool:
    """Whether the pattern is for the name; takes time in proportion to the name, whoever has chosen it."""
    first, *others = pattern.split("*")
    if not others:
        return pattern == name
    *middle, last = others
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    begin, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, begin, end)
        if found < 0:
            return False
        begin = found + len(part)
    return True


COMMON = ("library/alpine", "alpine", "rancher/mirrored-pause", "org/team/app")
"""Repositories as they are usual."""

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
    """Repositories made from the literal parts of a pattern; whether it matches them is for the caller to try."""
    made = dict.fromkeys(_plain(_DOT.sub(filling, pattern)) for filling in ("app", "team/app"))
    return tuple(sample for sample in made if sample)


def all_samples(patterns: Iterable[str]) -> tuple[str, ...]:
    """The samples of several patterns, and the usual repositories."""
    made = [sample for pattern in patterns for sample in samples(pattern)]
    return tuple(dict.fromkeys([*COMMON, *made]))


def _plain(pattern: str) -> str:
    for sign, text in _STEPS:
        pattern = sign.sub(text, pattern)
    return pattern.strip("/")
