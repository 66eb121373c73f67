"""scope-proxy against the baseline: the ratio of each figure, its spread, and whether scope-proxy is not slower."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median, quantiles

from benchmarks.bench import Sample
from benchmarks.peers import BASELINE, OURS

LEAST_ROUNDS = 9
"""Rounds without which there is no verdict."""
TOLERANCE = 0.10
"""By how much scope-proxy may exceed the baseline where the baseline's own spread is smaller."""
JUDGED = ("cpu_us", "cpu_s_gib")
"""Figures with a verdict: CPU time, the figures that other load on the machine changes the least."""
COMPARED = (*JUDGED, "requests_s", "gib_s", "first_byte_ms", "base_mib", "growth_mib")
"""Figures with a ratio, in this order."""


class Verdict(StrEnum):
    """Whether scope-proxy is not slower than the baseline."""

    YES = "yes"
    NO = "no"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one case, over the rounds in which both were measured."""

    workload: str
    case: str
    figure: str
    ours: float
    """The median of scope-proxy's rounds."""
    baseline: float
    """The median of the baseline's rounds."""
    lower: float
    """The first quartile of the ratios, ours to the baseline's, in each round ..."""
    upper: float
    """... and the third."""
    spread: float
    """The baseline's interquartile range, as a share of its median."""
    rounds: int

    @property
    def ratio(self) -> float:
        """The ratio of the medians; below 1, scope-proxy has the smaller figure."""
        return self.ours / self.baseline

    @property
    def allowed(self) -> float:
        """The largest ratio that is not slower."""
        return 1 + max(self.spread, TOLERANCE)

    @property
    def not_slower(self) -> Verdict | None:
        """The verdict; none for a figure that has no verdict."""
        if self.figure not in JUDGED:
            return None
        if self.rounds < LEAST_ROUNDS:
            return Verdict.UNDECIDED
        return Verdict.YES if self.ratio <= self.allowed else Verdict.NO


def compare(samples: Sequence[Sample]) -> Iterator[Comparison]:
    """Compare scope-proxy with the baseline in every case and figure that both have."""
    for workload, case in dict.fromkeys((sample.workload, sample.case) for sample in samples):
        of_case = [sample for sample in samples if (sample.workload, sample.case) == (workload, case)]
        for figure in COMPARED:
            ours, baseline = (_by_round(of_case, peer, figure) for peer in (OURS, BASELINE))
            pairs = [(ours[number], baseline[number]) for number in ours if baseline.get(number)]
            if pairs:
                yield _compared(workload, case, figure, pairs)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile, which a few disturbed rounds change less than the least and the most value."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third


def _compared(workload: str, case: str, figure: str, pairs: Sequence[tuple[float, float]]) -> Comparison:
    ours, baseline = ([pair[side] for pair in pairs] for side in (0, 1))
    middle = median(baseline)
    first, third = quartiles(baseline)
    lower, upper = quartiles([one / other for one, other in pairs])
    return Comparison(
        workload, case, figure, median(ours), middle, lower, upper, (third - first) / middle, rounds=len(pairs)
    )


def _by_round(samples: Sequence[Sample], peer: str, figure: str) -> dict[int, float]:
    return {one.round: one.figures[figure] for one in samples if one.peer == peer and figure in one.figures}
