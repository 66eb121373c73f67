"""No link of a page leads nowhere."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from tests.docs.pages import ROOT, headings, named, pages, prose

_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE_SPAN = re.compile(r"`[^`\n]*`")


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as code hosts make them of headings."""
    found: dict[str, int] = {}
    made = set()
    for heading in headings(page):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        count = found.get(anchor, 0)
        found[anchor] = count + 1
        made.add(f"{anchor}-{count}" if count else anchor)
    return made


def broken(page: Path, root: Path = ROOT) -> list[str]:
    """The relative links of a page that lead to no file of the repository, or to no heading."""
    missing = []
    text = _CODE_SPAN.sub(lambda match: "`" * len(match[0]), prose(page))
    for match in _LINK.finditer(text):
        url = urlsplit(match["target"])
        if url.scheme or url.netloc:
            continue
        target = (page.parent / url.path).resolve() if url.path else page
        inside = target.exists() and target.is_relative_to(root)
        if not inside or (url.fragment and url.fragment not in anchors(target)):
            missing.append(match["target"])
    return missing


def test_no_link_is_broken() -> None:
    found = {named(page): broken(page) for page in pages()}
    assert {page: targets for page, targets in found.items() if targets} == {}


def test_every_page_of_docs_is_in_the_index() -> None:
    index = prose(ROOT / "docs" / "README.md")
    left_out = [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index]
    assert left_out == ["README.md"]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n\n[here](#one) [there](#two) [gone](gone.md) [web](https://example.com/x)\n")
    assert broken(page, tmp_path) == ["#two", "gone.md"]
