"""Texts that others chose, as people are shown them: bounded, printable, without credentials."""

from proxy.log import redact

SHOWN_LIMIT = 300
"""Characters of one text."""

_ELLIPSIS = "..."


def shown(text: str, limit: int = SHOWN_LIMIT) -> str:
    """The text on one line, without what is not printable (controls, marks that turn the writing direction)."""
    safe = "".join(character if character.isprintable() else "?" for character in text[: 4 * limit])
    safe = redact(safe)
    return safe if len(safe) <= limit else safe[: limit - len(_ELLIPSIS)] + _ELLIPSIS
