"""The commands that pages show: those of `sh` and `console` blocks, and those in a sentence."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

from tests.docs.pages import blocks, named, prose

_SPAN = re.compile(r"`([^`]+)`")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_KEYWORDS = {"until", "do", "done", "export"}


@dataclass(frozen=True, slots=True)
class Command:
    """One program with its arguments."""

    place: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """The name of the program, as the page writes it."""
        return self.words[0]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def block_commands(page: Path) -> list[Command]:
    """The commands of the blocks of a page."""
    found = []
    for block in blocks(page, "sh", "console"):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found += [command for line in lines for command in commands(block.name, line)]
    return found


def inline_commands(page: Path) -> list[Command]:
    """The first command of each code span of a page; a span may continue on the next line."""
    spans = [span for paragraph in _PARAGRAPHS.split(prose(page)) for span in _SPAN.findall(paragraph)]
    lines = [" ".join(span.split()) for span in spans if re.match(r"(?:scope-proxy|make)\s", span)]
    return [next(commands(named(page), line)) for line in lines]


def commands(place: str, line: str) -> Iterator[Command]:
    """The commands of a line; those that another program runs, after `--` or `sh -c`, stand on their own."""
    for parts in _split(line):
        words = [*dropwhile(_is_no_program, parts)]
        end = words.index("--") if "--" in words else len(words)
        words, inner = words[:end], words[end + 1 :]
        if inner:
            yield from commands(place, shlex.join(inner))
        if words[-3:-1] == ["sh", "-c"]:
            yield from commands(place, words.pop())
        if words:
            yield Command(place, tuple(words))


def _is_no_program(word: str) -> bool:
    return word in _KEYWORDS or _ASSIGNMENT.match(word) is not None


def _split(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False  # whether the next word is the file of a redirection
    for token in lexer:
        if set(token) <= set("();|&"):
            yield words
            words, redirected = [], False
        elif set(token) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        else:
            words.append(token)
    yield words
