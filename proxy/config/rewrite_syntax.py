"""What Go's regular expressions do not have, said in plain words."""

import re

_NAMED_GROUP = re.compile(r"\(\?P?<([^>=!]*)>")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_GROUP_NAME = re.compile(r"[A-Za-z0-9_]+")

_CONSTRUCTS = (
    (re.compile(r"\(\?[=!]$"), "look-ahead", "put the exception into a rule of its own before this one"),
    (
        re.compile(r"\(\?<[=!]?$"),
        "look-behind",
        "match the text in front with a group and repeat it in the replacement",
    ),
    (re.compile(r"\(\?>$"), "an atomic group", "write (?:...)"),
    (re.compile(r"[*+?}]\+$"), "a possessive quantifier", "leave the second sign out"),
    (re.compile(r"\(\?P$"), "a back-reference by name", "a named group is (?P<name>...); it cannot be matched again"),
    (re.compile(r"\(\?#$"), "a comment in a pattern", "write it behind a # of the YAML file"),
    (re.compile(r"\\[1-9k]$"), "a back-reference", "a group cannot be matched again: write its pattern once more"),
    (re.compile(r"\\Z$"), r"\Z", "write $ (end of the text)"),
    (re.compile(r"\\[uU]$"), r"\u", r"write the character itself or \x{...}"),
)


def explain_pattern_error(reason: str) -> str:
    """The engine's own reason for refusing a pattern, with the name of the construct and what to do instead."""
    found = reason.rpartition(": ")[2]
    for sign, name, advice in _CONSTRUCTS:
        if sign.search(found):
            return f"the pattern uses {name} ({found}), which Go's regular expressions (RE2) do not have: {advice}"
    return f"the pattern is no valid Go regular expression (RE2): {reason}"


def refusal(pattern: str) -> str | None:
    """Why a pattern is refused that our engine would take: Go refuses it too, or would read it otherwise."""
    if any(match[1] == "C" for match in _ESCAPE.finditer(pattern)):
        return r"the pattern uses \C (any byte), which Go's regular expressions do not have: write a dot"
    names = _NAMED_GROUP.findall(_ESCAPE.sub("", pattern))
    for name in names:
        if not _GROUP_NAME.fullmatch(name):
            return f"the group name {name!r} may hold only letters, digits and underscores"
        if names.count(name) > 1:
            return f"the group name {name!r} stands twice: each group needs a name of its own"
    return None


def is_text(value: str) -> bool:
    """Whether a value has only whole characters: a YAML escape can write half of one."""
    return not any("\ud800" <= character <= "\udfff" for character in value)
