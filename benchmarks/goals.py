"""The goals: ratios of one run, round by round, against each peer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.bench import ORIGIN, Sample, over_tls
from benchmarks.peers import OURS


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure of ours is to be, as it is or as a ratio to a peer's in the same round."""

    workload: str
    case: str
    """The beginning of the case's name."""
    figure: str
    peer: str | None
    bound: float
    at_least: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal and how it was met in one case: the median of the rounds, the least and the most."""

    goal: Goal
    case: str
    median: float
    least: float
    most: float
    rounds: int

    @property
    def is_met(self) -> bool:
        """Whether the median is within the bound."""
        return self.median >= self.goal.bound if self.goal.at_least else self.median <= self.goal.bound


def _least(workload: str, case: str, figure: str, peer: str | None, bound: float) -> Goal:
    return Goal(workload, case, figure, peer, bound, at_least=True)


def _most(workload: str, case: str, figure: str, peer: str | None, bound: float) -> Goal:
    return Goal(workload, case, figure, peer, bound, at_least=False)


_NGINX, _REGISTRY = "nginx", "docker-registry"
_PLAIN: Sequence[Goal] = (
    _least("manifest", "GET", "requests_s", _NGINX, 1.5),
    _least("manifest", "GET", "requests_s", _REGISTRY, 20),
    _least("manifest", "HEAD", "requests_s", _NGINX, 1.2),
    _least("manifest", "HEAD", "requests_s", _REGISTRY, 20),
    _least("small blob", "", "requests_s", _NGINX, 1.5),
    _least("small blob", "", "requests_s", _REGISTRY, 20),
    _most("hot blob", "", "cpu_s_gib", _NGINX, 1.1),
    _most("hot blob", "", "cpu_s_gib", _REGISTRY, 0.6),
    _least("cold blob", "", "gib_s", _NGINX, 1.0),
    _least("cold blob", "", "gib_s", _REGISTRY, 1.3),
    _most("cold blob", "", "first_byte_ms", None, 20),
    _most("stampede", "", "origin_times", None, 1.001),
    _most("stampede", "", "seconds", _NGINX, 0.6),
    _most("stampede", "", "seconds", _REGISTRY, 0.3),
    _most("slow readers", "", "growth_mib", None, 5),
    _most("slow readers", "", "base_mib", None, 80),
    _most("slow readers", "", "growth_mib", _REGISTRY, 0.02),
    _most("stored blobs", "100000 blobs: start", "ready_s", None, 2),
    _most("limited origin", "", "seconds", ORIGIN, 1.02),
)
GOALS: Sequence[Goal] = (*_PLAIN, *(replace(goal, workload=over_tls(goal.workload)) for goal in _PLAIN))
"""The same goals on TLS listeners, for what is measured there."""


def outcomes(samples: Sequence[Sample]) -> Iterator[Outcome]:
    """How the goals were met, in every case that was measured."""
    for goal in GOALS:
        for case in dict.fromkeys(sample.case for sample in samples if _is_meant(goal, sample)):
            values = list(_values(goal, case, samples))
            if values:
                yield Outcome(goal, case, median(values), min(values), max(values), len(values))


def _is_meant(goal: Goal, sample: Sample) -> bool:
    return sample.workload == goal.workload and sample.case.startswith(goal.case)


def _values(goal: Goal, case: str, samples: Sequence[Sample]) -> Iterator[float]:
    ours, theirs = (_by_round(goal, case, samples, name) for name in (OURS, goal.peer))
    for number, value in ours.items():
        if goal.peer is None:
            yield value
        elif theirs.get(number):
            yield value / theirs[number]


def _by_round(goal: Goal, case: str, samples: Sequence[Sample], peer: str | None) -> dict[int, float]:
    return {
        sample.round: sample.figures[goal.figure]
        for sample in samples
        if sample.workload == goal.workload and sample.case == case and sample.peer == peer
    }
