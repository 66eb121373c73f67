"""The comparison with a baseline: ratios of medians, and when scope-proxy is not slower."""

from collections.abc import Sequence

import pytest

from benchmarks.bench import Sample
from benchmarks.comparison import Comparison, Verdict, compare, quartiles

NINE = (90.0, 92.0, 94.0, 96.0, 100.0, 104.0, 106.0, 108.0, 110.0)
"""Median 100, quartiles 94 and 106."""


def samples(ours: Sequence[float], baseline: Sequence[float], figure: str = "cpu_us") -> list[Sample]:
    return [
        Sample("manifest", "GET", peer, number, {figure: value})
        for peer, values in (("scope-proxy", ours), ("baseline", baseline))
        for number, value in enumerate(values)
    ]


def compared(ours: Sequence[float], baseline: Sequence[float], figure: str = "cpu_us") -> Comparison:
    (comparison,) = compare(samples(ours, baseline, figure))
    return comparison


def test_the_ratio_is_that_of_the_medians() -> None:
    comparison = compared([70, 80, 900], [100, 50, 160])
    assert (comparison.ours, comparison.baseline, comparison.ratio) == (80, 100, 0.8)


def test_the_spread_of_the_ratio_is_that_of_the_rounds() -> None:
    comparison = compared([10, 20, 30, 40, 50], [10, 10, 10, 10, 10])
    assert (comparison.lower, comparison.upper) == (2, 4)


def test_what_slows_down_both_in_a_round_does_not_widen_the_ratio() -> None:
    comparison = compared([10, 50, 20, 30], [10, 50, 20, 30])
    assert (comparison.lower, comparison.upper) == (1, 1)
    assert comparison.spread > 0


def test_the_baselines_spread_is_its_interquartile_range() -> None:
    assert compared(NINE, NINE).spread == pytest.approx(0.12)


def test_one_disturbed_round_changes_neither_ratio_nor_spread() -> None:
    disturbed = (*NINE[:-1], 1000.0)
    assert compared(disturbed, disturbed).spread == compared(NINE, NINE).spread
    assert compared(disturbed, NINE).ratio == compared(NINE, NINE).ratio


@pytest.mark.parametrize(
    ("ours", "baseline", "verdict"),
    [
        ([109.0] * 9, [100.0] * 9, Verdict.YES),
        ([111.0] * 9, [100.0] * 9, Verdict.NO),
        ([111.0] * 9, NINE, Verdict.YES),  # its own spread is 12 %
        ([113.0] * 9, NINE, Verdict.NO),
        ([50.0] * 9, [100.0] * 9, Verdict.YES),
        ([50.0] * 8, [100.0] * 8, Verdict.UNDECIDED),
        ([500.0] * 8, [100.0] * 9, Verdict.UNDECIDED),  # eight rounds have both
    ],
)
def test_not_slower_is_within_the_larger_of_the_spread_and_10_percent(
    ours: Sequence[float], baseline: Sequence[float], verdict: Verdict
) -> None:
    assert compared(ours, baseline).not_slower is verdict


def test_cpu_per_gib_has_a_verdict() -> None:
    assert compared([0.2] * 9, [0.1] * 9, "cpu_s_gib").not_slower is Verdict.NO


@pytest.mark.parametrize("figure", ["requests_s", "gib_s", "first_byte_ms", "growth_mib"])
def test_figures_that_other_load_changes_have_a_ratio_and_no_verdict(figure: str) -> None:
    comparison = compared([2.0] * 9, [1.0] * 9, figure)
    assert (comparison.ratio, comparison.not_slower) == (2, None)


def test_each_case_is_compared_with_itself() -> None:
    both = [
        Sample(workload, case, peer, 0, {"cpu_us": value})
        for workload, case, value in (
            ("manifest", "GET", 1.0),
            ("manifest", "HEAD", 2.0),
            ("manifest, TLS", "GET", 3.0),
        )
        for peer in ("scope-proxy", "baseline", "nginx")
    ]
    assert [(one.workload, one.case, one.ours, one.ratio) for one in compare(both)] == [
        ("manifest", "GET", 1, 1),
        ("manifest", "HEAD", 2, 1),
        ("manifest, TLS", "GET", 3, 1),
    ]


@pytest.mark.parametrize(("ours", "baseline"), [([1.0], []), ([], [1.0]), ([1.0], [0.0])])
def test_without_a_figure_of_both_there_is_nothing_to_compare(ours: list[float], baseline: list[float]) -> None:
    assert list(compare(samples(ours, baseline))) == []


def test_quartiles_of_one_value_are_the_value() -> None:
    assert quartiles([3.0]) == (3, 3)
