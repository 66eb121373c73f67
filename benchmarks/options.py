"""The command line of `python -m benchmarks`."""

import argparse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from benchmarks.comparison import LEAST_ROUNDS
from benchmarks.peers import OURS

ROUNDS = 5
QUICK_ROUNDS = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, and where the results go."""

    only: Sequence[str]
    peers: Sequence[str]
    baseline: Path | None
    """A virtual environment with another revision of scope-proxy."""
    baseline_config: Path | None
    """A file with other settings for the baseline."""
    rounds: int
    quick: bool
    directory: Path | None
    output: Path | None
    verbose: bool

    @property
    def has_baseline(self) -> bool:
        """Whether there is another revision or configuration to compare with."""
        return bool(self.baseline or self.baseline_config)


def parse(arguments: Sequence[str] | None, workloads: Collection[str], peers: Collection[str]) -> Options:
    """Read the command line; ends the program with status 2 and a message where it is wrong."""
    parser = _parser(workloads, peers)
    given = vars(parser.parse_args(arguments))
    only, chosen = (set(chain(*given.pop(name))) for name in ("only", "peers"))
    has_baseline = given["baseline"] or given["baseline_config"]
    if has_baseline and OURS not in chosen:
        parser.error(f"a baseline is compared with {OURS}: add it to --peers")
    default = QUICK_ROUNDS if given["quick"] else LEAST_ROUNDS if has_baseline else ROUNDS
    return Options(
        only=[name for name in workloads if name in only],
        peers=[name for name in peers if name in chosen],
        rounds=given.pop("rounds") or default,
        **given,
    )


def _parser(workloads: Collection[str], peers: Collection[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure scope-proxy and other servers in front of one origin, in turns.",
    )
    parser.add_argument(
        "--only", nargs="+", type=_names(workloads), default=[workloads], metavar="NAME,...",
        help=f"run these workloads: {', '.join(workloads)}",
    )  # fmt: skip
    parser.add_argument(
        "--peers", nargs="+", type=_names(peers), default=[peers], metavar="NAME,...",
        help=f"start these servers: {', '.join(peers)}",
    )  # fmt: skip
    parser.add_argument("--baseline", type=Path, metavar="VENV", help="compare with the scope-proxy of this venv")
    parser.add_argument(
        "--baseline-config", type=Path, metavar="FILE",
        help="compare with the settings of this YAML file, merged into the benchmark's own",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=_positive,
        help=f"rounds in which the peers take turns: {ROUNDS}, with a baseline {LEAST_ROUNDS}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer cases, and one round unless --rounds says more")
    parser.add_argument(
        "--folder", dest="directory", type=Path, help="where the peers store; a disk as they would have in service"
    )
    parser.add_argument("--output", type=Path, help="directory for benchmarks.json and benchmarks.png")
    parser.add_argument("--verbose", action="store_true", help="print every sample as it comes")
    return parser


def _names(known: Collection[str]) -> Callable[[str], Sequence[str]]:
    """Read names with commas between them."""

    def read(value: str) -> Sequence[str]:
        names = value.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
        return names

    return read


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) == 0:
        raise argparse.ArgumentTypeError(f"{value} is not a number of at least 1")
    return int(value)
