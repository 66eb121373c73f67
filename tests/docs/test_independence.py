"""No file names a package index, the tools of whoever built it, or a path of that machine."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import files, named

# Put together here, so that this file does not hold what it looks for.
FORBIDDEN = re.compile(
    "|".join(
        "".join(parts)
        for parts in (
            (r"\bpypi", r"\.(?:org|python)"),
            ("python", r"hosted\.org"),
            (r"registry\.npm", r"js\.org"),
            (r"proxy\.gol", r"ang\.org"),
            ("crates", r"\.io/"),
            ("--(?:extra-)?index", "-url[ =]http"),
            ("/wo", r"rk/(?:main|shared|\.)"),
            (r"\.lib", "rary/"),
            ("sha", "red/(?:DESIGN|reference)"),
            ("/tm", "p/venv"),
        )
    )
)


def test_no_file_names_where_it_was_made() -> None:
    found = []
    for path in files():
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{named(path)}: {match[0]}" for match in FORBIDDEN.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "text", ["https://py" + "pi.org/simple", "/wo" + "rk/main/x", ".lib" + "rary/search", "../sha" + "red/DESIGN.md"]
)
def test_such_names_are_recognised(text: str) -> None:
    assert FORBIDDEN.search(text)


def test_all_kinds_of_files_are_looked_at() -> None:
    seen = {named(path) for path in files()}
    assert {"Makefile", ".ci/run", "pyproject.toml", "requirements.lock", "README.md", named(Path(__file__))} <= seen
