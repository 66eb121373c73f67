"""Every metric stands in docs/metrics.md with its type and labels, and no page names one that does not exist."""

import re

import pytest

from proxy.runtime.series import ERRORS
from proxy.server.refusals import REJECTIONS
from tests.docs.exported import program
from tests.docs.pages import named, pages, section, text_of

_ROW = re.compile(r"^\| `(scope_proxy_\w+)` \| (\w+) \| ([^|]*) \| \S", re.MULTILINE)
_NAME = re.compile(r"scope_proxy_[a-z_]+(?<!_)")
_PARTS = ("_bucket", "_count", "_sum")


def test_the_table_is_what_the_program_says() -> None:
    rows = _ROW.findall(text_of("docs/metrics.md"))
    described = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert described == program()


def test_every_metric_that_a_page_names_exists() -> None:
    known = {name + part for name in program() for part in ("", *_PARTS)} | {"scope_proxy"}
    unknown = {named(page): set(_NAME.findall(text_of(page))) - known for page in pages()}
    assert {page: names for page, names in unknown.items() if names} == {}


@pytest.mark.parametrize(
    ("heading", "values"), [("Upstream errors", ERRORS), ("Rejected requests", REJECTIONS)], ids=["errors", "rejected"]
)
def test_every_reason_is_explained(heading: str, values: tuple[str, ...]) -> None:
    _, found, rest = section("docs/metrics.md", "Metrics").partition(f"\n### {heading}\n")
    assert found
    explained = re.findall(r"^\| `(\w+)` \| \S", rest.partition("\n### ")[0], re.MULTILINE)
    assert sorted(set(explained) - {"reason"}) == sorted(values)
