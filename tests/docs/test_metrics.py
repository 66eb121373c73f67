"""Every metric stands in docs/metrics.md with its type and labels, and no page names one that does not exist."""

import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from proxy import metrics
from tests.docs.pages import named, pages, text_of

_ROW = re.compile(r"^\| `(scope_proxy_\w+)` \| (\w+) \| ([^|]*) \| \S", re.MULTILINE)
_NAME = re.compile(r"scope_proxy_[a-z_]+(?<!_)")
_PARTS = ("_bucket", "_count", "_sum")


def program() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The metrics by the name under which they are scraped, with type and labels."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            family = next(iter(metric.describe()))
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, tuple(metric._labelnames))
    return found


def test_the_table_is_what_the_program_says() -> None:
    rows = _ROW.findall(text_of("docs/metrics.md"))
    described = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert described == program()


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    known = {name + part for name in program() for part in ("", *_PARTS)}
    assert set(_NAME.findall(text_of(page))) - {"scope_proxy"} <= known
