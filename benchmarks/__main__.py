"""scope-proxy, nginx and docker-registry against one origin, in turns: `python -m benchmarks`.

Exit status 1 when a peer cannot be started or sends corrupt content; a missed goal is only reported.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench, Origin, Sample
from benchmarks.certificate import Certificate
from benchmarks.clients import WrongBytes
from benchmarks.comparison import LEAST_ROUNDS
from benchmarks.content import Content
from benchmarks.installation import BaselineError, Installation, checkout, installed
from benchmarks.options import Options, parse
from benchmarks.peers import BASELINE, OURS, PEERS, NotInstalled, NotReady, Starter, scope_proxy
from benchmarks.report import Report
from benchmarks.settings import read_changes
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
WIDTH = 160
"""Columns where no terminal tells."""


def main() -> int:
    """Run the workloads of the command line, print the tables, and write JSON and a plot."""
    options = parse(None, WORKLOADS, PEERS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as with Ctrl-C, the servers are stopped
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    samples: list[Sample] = []
    started = time.monotonic()
    try:
        installations = _installations(options)
        for sample in _samples(options, _starters(options, installations)):
            samples.append(sample)
            if options.verbose:
                _print_sample(time.monotonic() - started, sample)
    except (WrongBytes, NotInstalled, NotReady, BaselineError) as error:
        console.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    report = Report(samples, time.monotonic() - started, installations, options.baseline_config)
    report.show(console)
    if options.output:
        report.write(options.output)
        console.print(f"written: {options.output}/benchmarks.json and benchmarks.png")
    return 0


def _print_sample(seconds: float, sample: Sample) -> None:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in sample.figures.items())
    print(f"{seconds:6.1f} s {sample.case}: {sample.peer}: {figures}", file=sys.stderr, flush=True)


def _installations(options: Options) -> Mapping[str, Installation]:
    """What is started of scope-proxy; raises BaselineError."""
    installations = {OURS: checkout()} if OURS in options.peers else {}
    if options.has_baseline:
        installations[BASELINE] = installed(options.baseline) if options.baseline else checkout()
    return installations


def _starters(options: Options, installations: Mapping[str, Installation]) -> Mapping[str, Starter]:
    """The peers by name; raises BaselineError."""
    starters = {name: PEERS[name] for name in options.peers}
    if options.has_baseline:
        changes = read_changes(options.baseline_config) if options.baseline_config else None
        starters[BASELINE] = partial(scope_proxy, name=BASELINE, installation=installations[BASELINE], changes=changes)
    return starters


def _samples(options: Options, starters: Mapping[str, Starter]) -> Iterator[Sample]:
    memory = Path("/dev/shm")  # noqa: S108 - the origin's content belongs in memory, its disk is not measured
    content = Content(Path(tempfile.mkdtemp(prefix="scope-proxy-bench-", dir=memory if memory.is_dir() else None)))
    directory = Path(tempfile.mkdtemp(prefix="scope-proxy-bench-", dir=options.directory))
    least = min(LEAST_ROUNDS, options.rounds) if options.has_baseline else 1
    try:
        with Origin.running(content.directory) as origin:
            certificate = Certificate.made(content.directory)
            bench = Bench(
                content, origin, directory, options.rounds, options.quick, starters, certificate, least_rounds=least
            )
            for name in options.only:
                yield from WORKLOADS[name](bench)
    finally:
        content.clear()
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
