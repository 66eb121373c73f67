"""Every test asserts something: in itself, or in a function of its file that it calls."""

import ast
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).parents[1]
ASSERTING = ("pytest.raises", "pytest.fail", "pytest.warns")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def asserts(function: Function, functions: Mapping[str, Function], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a function can fail by an assertion of its own, or by that of a function that it calls."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            name = called.rpartition(".")[2]
            if called in ASSERTING or name.startswith("assert_"):
                return True
            if name in functions and name not in seen and asserts(functions[name], functions, seen | {name}):
                return True
    return False


def without_assertion(path: Path) -> list[str]:
    """The tests of a file that assert nothing."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    functions: dict[str, Function] = {node.name: node for node in ast.walk(module) if isinstance(node, Function)}
    tests = [name for name in functions if name.startswith("test_")]
    return [f"{path.name}::{name}" for name in tests if not asserts(functions[name], functions)]


def test_every_test_has_an_assertion() -> None:
    files = sorted(TESTS.rglob("test_*.py"))
    assert len(files) > 100
    assert [name for file in files for name in without_assertion(file)] == []


def test_one_without_an_assertion_is_found(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text(
        "def check():\n    assert True\n\n\ndef test_one():\n    check()\n\n\ndef test_two():\n    print()\n\n\n"
        "def test_three():\n    with pytest.raises(ValueError):\n        int('x')\n"
    )
    assert without_assertion(path) == ["test_x.py::test_two"]
