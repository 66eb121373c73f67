"""The list of files in docs/architecture.md is what the package holds."""

import re

from tests.docs.pages import ROOT, section

PACKAGE = ROOT / "proxy"


def listed() -> dict[str, set[str]]:
    """The files by their folder, as the page lists them."""
    parts = re.split(r"^### `([\w/]+)/`$", section("docs/architecture.md", "Files"), flags=re.MULTILINE)[1:]
    return {
        folder: set(re.findall(r"^\| `(\w+\.py)` \|", text, re.MULTILINE))
        for folder, text in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_file_is_listed_and_every_listed_file_exists() -> None:
    held: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        held.setdefault(str(path.parent.relative_to(ROOT)), set()).update({path.name} - {"__init__.py"})
    assert listed() == held


def test_every_file_that_is_told_of_exists() -> None:
    told = re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)`", section("docs/architecture.md", "One pull"))
    assert told
    assert [name for name in told if not (PACKAGE / name).is_file()] == []
