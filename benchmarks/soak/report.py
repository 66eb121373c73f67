"""The results of a soak, as JSON and as a table."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.soak.samples import Sample
from benchmarks.soak.tally import FAILURES, Tally
from benchmarks.soak.verdict import LEAST_SECONDS, growth, summaries

WRITE_SECONDS = 60.0
"""How often the file is written while the soak runs."""
MOST_PROBLEMS = 20
KEPT_METRICS = (
    "scope_proxy_cache_bytes",
    "scope_proxy_cache_objects",
    "scope_proxy_cache_evictions_total",
    "scope_proxy_cache_corruptions_total",
    "scope_proxy_cache_write_errors_total",
    "scope_proxy_config_reloads_total",
    "scope_proxy_upstream_errors_total",
    "scope_proxy_upstream_resumes_total",
    "scope_proxy_http_aborted_total",
)


class Report:
    """Counts, samples and problems of one soak."""

    def __init__(self, seconds: float, rate: float, seed: int, output: Path) -> None:
        self.tally = Tally()
        self.reloads = Counter[str]()
        self.problems: list[str] = []
        self.has_died = False
        self._settings = {"seconds": seconds, "rate": rate, "seed": seed}
        self._file = output / "soak.json"
        self._samples: list[Sample] = []
        self._phases = Counter[str]()
        self._metrics: dict[str, float] = {}
        self._own_cpu = 0.0
        self._written = 0.0

    def phases(self, name: str) -> None:
        """Count a phase of a registry."""
        self._phases[name] += 1

    def add(self, samples: Sequence[Sample], metrics: Mapping[str, float], own_cpu: float) -> None:
        """Keep the samples of one time, and write the file now and then."""
        self._samples += samples
        self._metrics = {name: metrics[name] for name in KEPT_METRICS}
        self._own_cpu = own_cpu
        if time.monotonic() > self._written + WRITE_SECONDS:
            self.write()

    def died(self, what: str) -> None:
        """A process of the proxy has ended: so does the soak."""
        self.has_died = True
        self.problem(what)

    def problem(self, what: str) -> None:
        """Something that fails the soak."""
        self.problems.append(what)

    def judge(self, errors: Iterable[str]) -> None:
        """Look for failures, bugs in the log of the program, and growth."""
        self.problems += [f"{self.tally.of(name)} requests: {name}" for name in sorted(FAILURES) if self.tally.of(name)]
        bugs = list(errors)
        self.problems += [f"log: {line}" for line in bugs[:MOST_PROBLEMS]]
        if self._settings["seconds"] >= LEAST_SECONDS:
            for pid, figures in summaries(self._samples).items():
                self.problems += growth(pid, figures)

    def write(self) -> None:
        """Write `soak.json`, whole or not at all."""
        self._written = time.monotonic()
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._document(), indent=1))
        fresh.rename(self._file)

    def show(self) -> None:
        """Print the summary."""
        console = Console(width=120)
        table = Table("worker", "figure", "first tenth", "second tenth", "median", "last tenth", "max")
        for pid, figures in summaries(self._samples).items():
            for name, values in figures.items():
                table.add_row(str(pid), name, *(f"{value:g}" for value in values.values()))
        console.print(table)
        for kind, outcomes in self.tally.by_kind().items():
            console.print(f"{kind}: {', '.join(f'{name} {count}' for name, count in outcomes.items())}", markup=False)
        for problem in (*self.problems, *self.tally.reasons):
            console.print(problem, markup=False, soft_wrap=True)
        console.print(f"written: {self._file}; {'FAILED' if self.problems else 'passed'}", markup=False)

    def _document(self) -> dict[str, Any]:
        return {
            "settings": self._settings,
            "summary": summaries(self._samples),
            "requests": self.tally.by_kind(),
            "failures": list(self.tally.reasons),
            "problems": self.problems,
            "reloads": dict(self.reloads),
            "phases": dict(self._phases),
            "metrics": self._metrics,
            "own_cpu_seconds": self._own_cpu,
            "samples": [sample.json() for sample in self._samples],
        }
