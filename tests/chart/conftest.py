"""The chart, rendered by real Helm."""

from pathlib import Path

import pytest

from tests.chart.tools import CHART_TOOLS
from tests.real.programs import require_tools

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    require_tools(*CHART_TOOLS)
