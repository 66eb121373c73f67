"""Every threat has its row in THREAT_MODEL.md, every test that a row names is there, and every attack has its row."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.docs.pages import ROOT, named, section, text_of

PAGE = "THREAT_MODEL.md"
ROWS = range(1, 32)
NO_TESTS = "Not run as attacks"

_ROW = re.compile(r"^## (?P<number>\d+)\. (?P<title>.+)$", re.MULTILINE)
_ID = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>\w+)`")


def rows() -> dict[int, str]:
    """The rows by their number, each with its heading."""
    return {int(match["number"]): match[0].removeprefix("## ") for match in _ROW.finditer(text_of(PAGE))}


@cache
def attacks(path: Path) -> frozenset[str]:
    """The test functions of a file that carry the marker, by themselves or as the whole file does."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    assigned = (node for node in module.body if isinstance(node, ast.Assign | ast.AnnAssign))
    all_of_them = any("pytestmark" in ast.unparse(node) and _marks(ast.unparse(node)) for node in assigned)
    functions = (node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(
        node.name
        for node in functions
        if node.name.startswith("test_")
        and (all_of_them or any(_marks(ast.unparse(one)) for one in node.decorator_list))
    )


def _marks(source: str) -> bool:
    return re.search(r"pytest\.mark\.security\b", source) is not None


def named_attacks() -> Iterator[tuple[Path, str]]:
    """Every test that a row names."""
    for match in _ID.finditer(text_of(PAGE)):
        yield ROOT / match["file"], match["name"]


def test_every_row_is_there_in_order() -> None:
    assert list(rows()) == list(ROWS)


def test_a_row_has_threat_control_residual_risk_and_its_tests() -> None:
    for heading in rows().values():
        text = section(PAGE, heading)
        parts = re.findall(r"^\*\*([\w ]+)\.\*\*", text, re.MULTILINE)
        assert parts == ["Threat", "Control", "Residual risk", "Tests"], heading
        listed = text.partition("**Tests.**")[2]
        assert bool(_ID.search(listed)) != (NO_TESTS in listed), heading


def test_every_test_of_a_row_exists_and_is_an_attack() -> None:
    for heading in rows().values():
        found = [(match["file"], match["name"]) for match in _ID.finditer(section(PAGE, heading))]
        assert [f"{file}::{name}" for file, name in found if name not in attacks(ROOT / file)] == [], heading
        assert len(set(found)) == len(found), heading


def test_every_attack_is_named_by_a_row() -> None:
    known = set(named_attacks())
    files = sorted((ROOT / "tests" / "security").glob("test_*.py"))
    assert [f"{named(file)}::{name}" for file in files for name in attacks(file) if (file, name) not in known] == []


def test_what_is_no_attack_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text(
        "import pytest\n\n\ndef test_one():\n    pass\n\n\n@pytest.mark.security\ndef test_two():\n    pass\n"
    )
    assert attacks(path) == {"test_two"}
