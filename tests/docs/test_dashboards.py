"""The dashboards can be imported, name only what is exported, and do not repeat the mistakes of others."""

import itertools
import re

import pytest

from tests.docs.dashboards import Dashboard, Panel, dashboards, panels
from tests.docs.exported import FOREIGN, exported, metric_names
from tests.docs.pages import text_of

COLUMNS = 24
EVERYWHERE = ("datasource", "namespace", "pod", "instance")
UNITS = {
    "none",
    "s",
    "bytes",
    "Bps",
    "percentunit",
    "reqps",
    "cps",
    "cpm",
    "short",
    "dateTimeFromNow",
}
"""Units that Grafana knows by these names."""

_COUNTED = re.compile(r"\w+_(?:total|bucket)\b(?P<rest>(?:\{[^{}]*\})?\s*\[?)")

QUERIES = [(panel, query) for panel in panels() for query in panel.queries]

every_dashboard = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard.name)


def fields(panel: Panel) -> set[tuple[int, int]]:
    """The places of the grid that a panel covers."""
    place = panel.json["gridPos"]
    columns = range(place["x"], place["x"] + place["w"])
    return set(itertools.product(columns, range(place["y"], place["y"] + place["h"])))


def test_there_are_the_six_that_are_documented() -> None:
    listed = re.findall(r"^\| [^|]+ \| `(\w+)\.json` \|", text_of("docs/dashboards.md"), re.MULTILINE)
    assert sorted(listed) == [dashboard.name for dashboard in dashboards()]
    assert len(listed) == 6


def test_no_two_have_the_same_uid_or_title() -> None:
    for key in ("uid", "title"):
        values = [dashboard.json[key] for dashboard in dashboards()]
        assert len(set(values)) == len(values)


@every_dashboard
def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: Dashboard) -> None:
    ids = [panel.json["id"] for panel in dashboard.panels]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.panels:
        assert not taken & fields(panel), panel.name
        taken |= fields(panel)
    assert {column for column, _ in taken} <= set(range(COLUMNS))


@every_dashboard
def test_variables_are_those_that_queries_use(dashboard: Dashboard) -> None:
    used = {name for panel in dashboard.panels for query in panel.queries for name in re.findall(r"\$(\w+)", query)}
    own = {name for name in used if not name.startswith("__")}
    assert own <= set(dashboard.variables)
    assert set(dashboard.variables) - own <= {"datasource"}
    assert set(EVERYWHERE) <= set(dashboard.variables)


@every_dashboard
def test_all_stands_for_series_without_the_label_too(dashboard: Dashboard) -> None:
    for variable in dashboard.variables.values():
        if variable["type"] == "query":
            assert (variable["includeAll"], variable["multi"], variable["allValue"]) == (True, True, ".*")
            assert variable["current"]["value"] == ["$__all"]


@every_dashboard
def test_the_data_source_is_the_one_that_is_chosen(dashboard: Dashboard) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    sources = [panel.json["datasource"] for panel in dashboard.panels]
    sources += [target["datasource"] for panel in dashboard.panels for target in panel.json["targets"]]
    sources += [each["datasource"] for each in dashboard.variables.values() if each["type"] == "query"]
    assert [each for each in sources if each != chosen] == []


def test_a_panel_has_a_title_a_description_and_a_known_unit() -> None:
    for panel in panels():
        title, unit = panel.json["title"], panel.json["fieldConfig"]["defaults"]["unit"]
        assert 1 < len(title) < len(panel.json["description"]), panel.name
        assert unit in UNITS, panel.name


def test_a_panel_queries_what_is_exported() -> None:
    named = {panel.name: set().union(*map(metric_names, panel.queries)) for panel in panels()}
    assert [name for name, metrics in named.items() if not metrics] == []
    known = exported() | FOREIGN
    assert {name: metrics - known for name, metrics in named.items() if metrics - known} == {}


def test_every_query_obeys_the_variables() -> None:
    selectors = [
        (panel.name, selector)
        for panel, query in QUERIES
        for selector in re.findall(r"\b(?:scope_proxy|process|python)_\w+(\{[^{}]*\})?", query)
    ]
    assert selectors
    needed = [f'{name}=~"${name}"' for name in EVERYWHERE[1:]]
    assert [(panel, word) for panel, selector in selectors for word in needed if word not in selector] == []


def test_counters_are_displayed_as_rates_and_buckets_as_quantiles() -> None:
    counted = [(panel.name, match) for panel, query in QUERIES for match in _COUNTED.finditer(query)]
    assert [(name, match[0]) for name, match in counted if not match["rest"].endswith("[")] == []
    assert [query for _, query in QUERIES if query.count("_bucket") != query.count("histogram_quantile(")] == []


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ('sum by (le, code) (rate(a_total{b="c_total"}[5m])) / on (job) group_left (d) e:f', {"a_total", "e:f"}),
        ("time() - max without (g) (h > 1.5e3) and i offset 5m or vector(0)", {"h", "i"}),
        ("histogram_quantile(0.9, rate(j_bucket[$__rate_interval]))", {"j_bucket"}),
    ],
)
def test_names_are_distinguished_from_everything_else(query: str, names: set[str]) -> None:
    assert metric_names(query) == names
