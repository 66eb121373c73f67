"""The option by which parsers are tried for longer."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fuzz-seconds` for `make fuzz`."""
    parser.getgroup("fuzz").addoption("--fuzz-seconds", type=float, default=0.0, help="try each parser for so long")
