"""What the report prints of the comparison with a baseline."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.bench import Sample
from benchmarks.installation import Installation
from benchmarks.report import Report

INSTALLATIONS = {
    "scope-proxy": Installation(["python"], Path("/checkout/proxy"), "0.2.0", "3.13.1", "0123456789ab"),
    "baseline": Installation(["python"], Path("/venv/proxy"), "0.1.0", "3.13.1", ""),
}


def report(ours: float, baseline: float, rounds: int, config: Path | None = None) -> Report:
    samples = [
        Sample("hot blob", "64 MiB, 4 clients", peer, number, {"cpu_s_gib": value, "gib_s": 1.0})
        for number in range(rounds)
        for peer, value in (("scope-proxy", ours), ("baseline", baseline))
    ]
    return Report(samples, 60.0, INSTALLATIONS, config)


def printed(report: Report) -> Sequence[str]:
    output = io.StringIO()
    report.show(Console(file=output, width=160))
    return output.getvalue().splitlines()


def rows(report: Report) -> list[list[str]]:
    """The cells of the last table."""
    lines = printed(report)
    start = max(number for number, line in enumerate(lines) if line.startswith("scope-proxy / baseline"))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines[start:] if line.startswith("│")]


@pytest.mark.parametrize(
    ("ours", "rounds", "verdict"), [(0.2, 9, "yes"), (0.3, 9, "NO"), (0.3, 8, "undecided (too few rounds)")]
)
def test_cpu_time_has_ratio_spread_and_verdict(ours: float, rounds: int, verdict: str) -> None:
    ratio = f"{ours / 0.2:.2f}"
    assert rows(report(ours, 0.2, rounds))[0] == [
        *("hot blob", "64 MiB, 4 clients", "CPU-s/GiB", f"{ours:.2f}", "0.20"),
        *(f"{ratio} ({ratio} - {ratio})", "0%", "1.10", str(rounds), verdict),
    ]


def test_throughput_has_a_ratio_and_no_verdict() -> None:
    throughput = rows(report(0.2, 0.2, 9))[1]
    assert throughput[2:] == ["GiB/s", "1", "1", "1.00 (1.00 - 1.00)", "0%", "", "9", ""]


def test_version_commit_and_package_of_both_are_printed() -> None:
    lines = printed(report(0.2, 0.2, 1, Path("changes.yaml")))
    assert "scope-proxy: version 0.2.0, 0123456789ab, Python 3.13.1, /checkout/proxy" in lines
    assert "baseline: version 0.1.0, revision unknown, Python 3.13.1, /venv/proxy, with changes.yaml" in lines


def test_the_file_has_the_comparison(tmp_path: Path) -> None:
    report(0.3, 0.2, 9).write(tmp_path)
    (comparison, _) = json.loads((tmp_path / "benchmarks.json").read_text())["baseline"]
    assert (comparison["figure"], comparison["not_slower"]) == ("cpu_s_gib", "no")
    assert comparison["ratio"] == pytest.approx(1.5)
