"""All files that are generated from the models of the configuration and the chart's values."""

from pathlib import Path

from scripts.reference.chart import chart_files
from scripts.reference.restart import TEMPLATE, render_template
from scripts.reference.settings import PAGE, page


def generated() -> dict[Path, str]:
    """Every generated file with its content; the tests compare it with what is in the repository."""
    return {PAGE: page(), TEMPLATE: render_template(), **chart_files()}
