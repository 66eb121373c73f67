"""scope-proxy, nginx and docker-registry against one origin, in turns: `python -m benchmarks`.

Exit status 1 when a peer sends wrong bytes; a goal that is missed is shown and changes nothing.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench, Origin, Sample
from benchmarks.certificate import Certificate
from benchmarks.clients import WrongBytes
from benchmarks.content import Content
from benchmarks.peers import PEERS, NotInstalled
from benchmarks.report import Report
from benchmarks.workloads import cold, large, slow, small, stored

WORKLOADS: dict[str, Callable[[Bench], Iterator[Sample]]] = {
    "manifest": small.manifests,
    "small": small.blobs,
    "hot": large.hot,
    "slow": slow.slow,
    "stored": stored.stored,
    "limited": cold.limited,
    "stampede": cold.stampede,
    "cold": cold.cold,
    "manifest-tls": lambda bench: small.manifests(bench.over_tls()),
    "small-tls": lambda bench: small.blobs(bench.over_tls()),
    "hot-tls": lambda bench: large.hot(bench.over_tls()),
    "stampede-tls": lambda bench: cold.stampede(bench.over_tls()),
    "cold-tls": lambda bench: cold.cold(bench.over_tls()),
}
ROUNDS = 5
QUICK_ROUNDS = 1
WIDTH = 160
"""Columns where no terminal tells."""


def main() -> int:
    """Run the workloads that were asked for, print the table, and write JSON and a plot."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as with Ctrl-C, the servers are stopped
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    samples: list[Sample] = []
    started = time.monotonic()
    try:
        for sample in _samples(asked):
            samples.append(sample)
            if asked.verbose:
                _tell(time.monotonic() - started, sample)
    except (WrongBytes, NotInstalled) as error:
        console.print(f"[red]{type(error).__name__}:[/red] {error}")
        return 1
    report = Report(samples, time.monotonic() - started)
    report.show(console)
    if asked.output:
        report.write(asked.output)
        console.print(f"written: {asked.output}/benchmarks.json and benchmarks.png")
    return 0


def _tell(seconds: float, sample: Sample) -> None:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in sample.figures.items())
    print(f"{seconds:6.1f} s {sample.case}: {sample.peer}: {figures}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="run these workloads")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="start these servers")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds in which the peers take turns")
    parser.add_argument("--quick", action="store_true", help="one round, fewer cases")
    parser.add_argument("--folder", type=Path, help="where the peers store; a disk as they would have in service")
    parser.add_argument("--output", type=Path, help="folder for benchmarks.json and benchmarks.png")
    parser.add_argument("--verbose", action="store_true", help="print every sample as it comes")
    return parser.parse_args()


def _samples(asked: argparse.Namespace) -> Iterator[Sample]:
    memory = Path("/dev/shm")  # noqa: S108 - the origin's content belongs in memory, its disk is not measured
    content = Content(Path(tempfile.mkdtemp(prefix="scope-proxy-bench-", dir=memory if memory.is_dir() else None)))
    folder = Path(tempfile.mkdtemp(prefix="scope-proxy-bench-", dir=asked.folder))
    try:
        with Origin.running(content.folder) as origin:
            rounds = QUICK_ROUNDS if asked.quick else asked.rounds
            certificate = Certificate.made(content.folder)
            bench = Bench(content, origin, folder, rounds, asked.quick, _names(asked.peers), certificate)
            for name in asked.only:
                yield from WORKLOADS[name](bench)
    finally:
        content.clear()
        shutil.rmtree(folder)


def _names(chosen: Sequence[str]) -> list[str]:
    return [name for name in PEERS if name in chosen]


if __name__ == "__main__":
    sys.exit(main())
