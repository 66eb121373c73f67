"""What watching costs on the hot path: `python -m benchmarks.cost`.

CPU per hot manifest (HEAD by tag, from the cache), for the program as it is, with a log that writes errors only, and
with metrics that count nothing besides (`benchmarks/silenced.py`); in turns, one after the other in each round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.process import CLIENT_CORE, Started, pinned
from proxy.testbed.images import make_image
from proxy.testbed.tokens import Rules
from tests.fakes.app_thread import entered
from tests.fakes.registry import ScriptedRegistry
from tests.real.processes import answers, free_port

REPOSITORY = "library/app"
PATH = f"/v2/{REPOSITORY}/manifests/1?ns=docker.io"
READY_SECONDS = 20.0
PAUSE = 0.05
VARIANTS: Mapping[str, tuple[str, str]] = {
    "as it is": ("proxy", "info"),
    "no access log": ("proxy", "error"),
    "no access log, no metrics": ("benchmarks.silenced", "error"),
}
"""What is started, and the level of its log."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run it."""

    name: str
    address: str
    server: Started

    def measure(self, seconds: float) -> float:
        """Microseconds of CPU for a request."""
        before = self.server.cpu_seconds()
        command = [sys.executable, "-m", "benchmarks.requester", self.address, PATH, "--seconds", str(seconds)]
        done = subprocess.run(pinned(command, CLIENT_CORE), capture_output=True, check=True, text=True)
        self.server.settle()
        counted = json.loads(done.stdout)
        if counted["bad"]:
            raise RuntimeError(f"{counted['bad']} requests were not answered with 200")
        return (self.server.cpu_seconds() - before) / int(counted["requests"]) * 1e6


@contextmanager
def _started(name: str, endpoint: str, directory: Path) -> Iterator[Variant]:
    module, level = VARIANTS[name]
    address, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    home = directory / name.replace(" ", "-").replace(",", "")
    home.mkdir()
    config = home / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "version": 1,
                "listeners": [{"address": address}],
                "admin": {"address": admin},
                "registries": {"docker.io": {"endpoints": [endpoint]}},
                "cache": {"path": str(home / "cache"), "tagAge": "1h"},
                "timeouts": {"drainIdle": "0s"},
                "log": {"level": level},
            }
        )
    )
    server = Started.start([sys.executable, "-m", module, "serve", "--config", str(config)], home / "log")
    try:
        _await_ready(f"http://{admin}/readyz")
        yield Variant(name, address, server)
    finally:
        server.stop()


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not answers(url, 200):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} does not answer 200")
        time.sleep(PAUSE)


def main() -> None:
    """Print a table: medians, spread, and what each variant saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of requests in each round")
    arguments = parser.parse_args()
    registry = ScriptedRegistry([make_image(REPOSITORY, "1")], Rules(dialect="none"))
    costs: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(entered(registry))
        variants = [stack.enter_context(_started(name, registry.url, directory)) for name in VARIANTS]
        for variant in variants:
            variant.measure(arguments.seconds)
        for _ in range(arguments.rounds):
            for variant in variants:
                costs[variant.name].append(variant.measure(arguments.seconds))
    _print(costs)


def _print(costs: Mapping[str, list[float]]) -> None:
    table = Table(title="CPU per hot manifest (HEAD by tag), microseconds")
    for heading in ("variant", "median", "least", "most", "of the first"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    first = statistics.median(next(iter(costs.values())))
    for name, values in costs.items():
        median = statistics.median(values)
        table.add_row(name, f"{median:.0f}", f"{min(values):.0f}", f"{max(values):.0f}", f"{median / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
