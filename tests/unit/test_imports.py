"""Unit tests need no program of the machine: nothing that they import is in `tests/real`."""

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def imported(path: Path) -> Iterator[str]:
    """The modules of tests that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.startswith("tests."))


def reachable(paths: Iterator[Path]) -> dict[str, Path]:
    """Every module of tests that these files import, directly or not, with the first file that does."""
    found: dict[str, Path] = {}
    left = list(paths)
    while left:
        path = left.pop()
        for name in set(imported(path)) - found.keys():
            found[name] = path
            left += [file for file in [ROOT / f"{name.replace('.', '/')}.py"] if file.is_file()]
    return found


def test_unit_tests_import_nothing_of_tests_real() -> None:
    found = reachable(HERE.rglob("*.py"))
    assert "tests.fakes.client" in found
    assert {name: str(path) for name, path in found.items() if name.startswith("tests.real")} == {}


def test_an_indirect_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("def f():\n    from tests.operate.program import Program\n")
    assert "tests.real.processes" in reachable(tmp_path.rglob("*.py"))
