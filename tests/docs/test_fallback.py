"""The k3s setting that ends the fallback to the registry itself is never named without the releases that know it."""

from pathlib import Path

from tests.docs.pages import ROOT, named, pages, text_of
from tests.docs.releases import RELEASES, SETTING


def naming() -> list[Path]:
    """The pages that name the setting, and the chart's notes, which an operator reads in place of a page."""
    notes = ROOT / "helm" / "scope-proxy" / "templates" / "NOTES.txt"
    return [notes, *(page for page in pages() if SETTING in text_of(page))]


def test_a_page_that_names_the_setting_names_the_releases_that_know_it() -> None:
    texts = {named(page): " ".join(text_of(page).split()) for page in naming()}
    assert len(texts) > 1
    assert [page for page, text in texts.items() if not (SETTING in text and RELEASES in text)] == []
