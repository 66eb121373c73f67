"""Patterns of names in which `*` stands for any part, none included; nothing else in them has a meaning."""


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
