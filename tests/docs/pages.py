"""The pages that people read, and their parts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_ELSEWHERE = {".git", "__pycache__", "build", "dist"}
"""No files of the repository; `.git` is a file in a worktree of Git, with a path of the machine in it."""
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced example; `name` says where it stands."""

    name: str
    language: str
    text: str


def files() -> Iterator[Path]:
    """The files of the repository; tools keep their own in directories with a dot."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in parts[:-1])
        if path.is_file() and not hidden and not _ELSEWHERE.intersection(parts):
            yield path


def named(path: Path) -> str:
    """A file as people call it."""
    return str(path.relative_to(ROOT))


def pages() -> list[Path]:
    """All pages."""
    return [path for path in files() if path.suffix == ".md"]


def text_of(path: Path | str) -> str:
    """The text of a page."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(path: Path, *languages: str) -> list[Block]:
    """The examples of a page, in some languages."""
    text = text_of(path)
    return [
        Block(f"{named(path)}:{text.count(chr(10), 0, match.start()) + 1}", match["language"], match["text"])
        for match in _FENCE.finditer(text)
        if match["language"] in languages
    ]


def prose(path: Path) -> str:
    """A page without its examples."""
    return _FENCE.sub("", text_of(path))


def code(path: Path) -> list[str]:
    """What stands as code in the lines of a page."""
    return _CODE.findall(prose(path))


def headings(path: Path) -> list[str]:
    """The headings of a page, as they are written."""
    return [match["text"] for match in _HEADING.finditer(prose(path))]


def section(path: str, heading: str) -> str:
    """What stands under a heading of the second level."""
    _, found, rest = text_of(path).partition(f"\n## {heading}\n")
    assert found, f"{path} has no section ## {heading}"
    return rest.partition("\n## ")[0]
