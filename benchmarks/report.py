"""The results: tables of medians with their spread, ratios against goals and baseline, JSON, and a plot."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.bench import Sample
from benchmarks.comparison import LEAST_ROUNDS, TOLERANCE, Comparison, Verdict, compare
from benchmarks.goals import Outcome, outcomes
from benchmarks.installation import Installation
from benchmarks.peers import BASELINE
from benchmarks.plot import draw

FIGURES = {
    "requests_s": "requests/s",
    "cpu_us": "CPU us/request",
    "gib_s": "GiB/s",
    "cpu_s_gib": "CPU-s/GiB",
    "seconds": "seconds",
    "first_byte_ms": "first byte ms",
    "ready_s": "ready s",
    "origin_times": "origin sent",
    "origin_gets": "origin GET",
    "origin_heads": "origin HEAD",
    "base_mib": "base MiB",
    "growth_mib": "growth MiB",
    "rss_mib": "resident MiB",
}
"""The reported figures, in this order."""
VERDICTS = {Verdict.YES: "yes", Verdict.NO: "NO", Verdict.UNDECIDED: "undecided (too few rounds)"}


@dataclass(frozen=True, slots=True)
class Report:
    """One run."""

    samples: Sequence[Sample]
    seconds: float
    installations: Mapping[str, Installation]
    """Where the code of scope-proxy and of the baseline is."""
    baseline_config: Path | None = None

    def show(self, console: Console) -> None:
        """Print a table for each workload, the goals, and the comparison with the baseline."""
        console.print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}, {self.seconds:.0f} s in all")
        for name, description in self._descriptions().items():
            console.print(f"{name}: {description}", markup=False, highlight=False, soft_wrap=True)
        for workload in dict.fromkeys(sample.workload for sample in self.samples):
            console.print(self._table(workload))
        if reached := list(outcomes(self.samples)):
            console.print(_goals(reached))
        if comparisons := list(compare(self.samples)):
            console.print(_baseline(comparisons))

    def write(self, directory: Path) -> None:
        """Write every sample, the goals and the comparison with the baseline as JSON, and the plot."""
        directory.mkdir(parents=True, exist_ok=True)
        met = [
            {**asdict(outcome.goal), "case": outcome.case, "median": outcome.median, "least": outcome.least}
            | {"most": outcome.most, "rounds": outcome.rounds, "met": outcome.is_met}
            for outcome in outcomes(self.samples)
        ]
        shape = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "seconds": round(self.seconds),
            "installations": self._descriptions(),
            "goals": met,
            "baseline": [
                asdict(one) | {"ratio": one.ratio, "allowed": one.allowed, "not_slower": one.not_slower}
                for one in compare(self.samples)
            ],
            "samples": [asdict(sample) for sample in self.samples],
        }
        (directory / "benchmarks.json").write_text(json.dumps(shape, indent=2) + "\n")
        draw(self.samples, directory / "benchmarks.png")

    def _descriptions(self) -> dict[str, str]:
        descriptions = {name: str(installation) for name, installation in self.installations.items()}
        if self.baseline_config:
            descriptions[BASELINE] += f", with {self.baseline_config}"
        return descriptions

    def _table(self, workload: str) -> Table:
        samples = [sample for sample in self.samples if sample.workload == workload]
        names = [name for name in FIGURES if any(name in sample.figures for sample in samples)]
        table = Table(title=f"{workload}: median (least - most)", title_justify="left")
        table.add_column("case")
        table.add_column("peer")
        for name in names:
            table.add_column(FIGURES[name], justify="right")
        for case in dict.fromkeys(sample.case for sample in samples):
            for peer in dict.fromkeys(sample.peer for sample in samples if sample.case == case):
                table.add_row(case, peer, *_cells(samples, case, peer, names))
            table.add_section()
        return table


def _cells(samples: Sequence[Sample], case: str, peer: str, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        values = [one.figures[name] for one in samples if one.case == case and one.peer == peer and name in one.figures]
        yield spread(values) if values else ""


def spread(values: Sequence[float]) -> str:
    """The median, with the least and the most where they differ."""
    middle, least, most = (rounded(value) for value in (median(values), min(values), max(values)))
    return middle if least == most else f"{middle} ({least} - {most})"


def rounded(value: float) -> str:
    """A number with three figures that mean something."""
    if value >= 100 or value == round(value):  # noqa: PLR2004 - three figures
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004 - as above


def _goals(found: Sequence[Outcome]) -> Table:
    table = Table(title="goals: scope-proxy / peer in the same round, median (least - most)", title_justify="left")
    for heading in ("workload", "case", "figure", "against", "goal", "measured", "rounds", ""):
        table.add_column(heading)
    for one in found:
        bound = f"{'>=' if one.goal.at_least else '<='} {rounded(one.goal.bound)}"
        measured = spread([one.least, one.median, one.most])
        verdict = "met" if one.is_met else "MISSED"
        figure = FIGURES[one.goal.figure]
        table.add_row(
            one.goal.workload, one.case, figure, one.goal.peer or "", bound, measured, str(one.rounds), verdict
        )
    return table


def _baseline(comparisons: Sequence[Comparison]) -> Table:
    table = Table(
        title="scope-proxy / baseline: ratio of the medians (quartiles of the ratios in each round)",
        title_justify="left",
        caption=f"spread: interquartile range of the baseline's rounds / their median. Not slower: a ratio of at most "
        f"1 + spread or {1 + TOLERANCE:.2f}, whichever is larger, over at least {LEAST_ROUNDS} rounds.",
        caption_justify="left",
    )
    for heading in ("workload", "case", "figure"):
        table.add_column(heading)
    for heading in ("scope-proxy", "baseline", "ratio", "spread", "allowed", "rounds"):
        table.add_column(heading, justify="right")
    table.add_column("not slower")
    for one in comparisons:
        ratio = f"{one.ratio:.2f} ({one.lower:.2f} - {one.upper:.2f})"
        medians = (rounded(one.ours), rounded(one.baseline))
        allowed = f"{one.allowed:.2f}" if one.not_slower else ""
        figures = (*medians, ratio, f"{one.spread:.0%}", allowed, str(one.rounds))
        verdict = VERDICTS[one.not_slower] if one.not_slower else ""
        table.add_row(one.workload, one.case, FIGURES[one.figure], *figures, verdict)
    return table


def machine() -> str:
    """The machine and the versions that the figures belong to."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = cpuinfo.partition("model name")[2].partition("\n")[0].strip("\t :") or platform.machine()
    versions = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {versions}, load {os.getloadavg()[1]:.1f}"
