"""Replacement templates of Go's regular expressions: `$1`, `${1}`, `$name`, `$$`."""

from dataclasses import dataclass

_ESCAPED_DOLLAR = "$"
_MAX_NUMBER_DIGITS = 8  # Go reads a longer number as a name


@dataclass(frozen=True, slots=True)
class Reference:
    """A group that a template refers to, and how it was written."""

    name: str
    braced: bool

    @property
    def number(self) -> int | None:
        """The number of the group; None for a name (`01` is a name, as Go has it)."""
        plain = self.name.isascii() and self.name.isdigit() and len(self.name) <= _MAX_NUMBER_DIGITS
        return int(self.name) if plain and (self.name[0] != "0" or self.name == "0") else None

    def __str__(self) -> str:
        """The reference as the template writes it."""
        return f"${{{self.name}}}" if self.braced else f"${self.name}"


Part = str | Reference


def parse_template(template: str) -> tuple[Part, ...]:
    """Split a template into literal text and group references; a malformed `$` is literal text, as in Go."""
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
    """The reference that stands behind a `$`, and its length; None where there is none."""
    braced = text.startswith("{")
    start = end = 1 if braced else 0
    while end < len(text) and _is_word(text[end]):
        end += 1
    if end == start or (braced and text[end : end + 1] != "}"):
        return None, 0
    return Reference(text[start:end], braced), end + 1 if braced else end


def _is_word(character: str) -> bool:
    return character == "_" or character.isalpha() or character.isdecimal()
