"""The real proxy under a mixed load for hours, its registries failing now and then: `python -m benchmarks.soak`.

Exit status 1 when a byte was wrong, an answer was one that no node may get, a request hung, a process of the proxy
ended, or a worker uses more descriptors, threads or memory at the end than it may (`benchmarks/soak/verdict.py`).
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.soak.program import Program
from benchmarks.soak.report import Report
from benchmarks.soak.run import Soak
from benchmarks.soak.site import Registry, Site
from proxy.testbed.tokens import Account, Rules

FIRST_IMAGES = 12
"""Images that each registry holds from the start."""
ACCOUNT = Account("robot", "soak-password")
RULES = {
    "one.example": Rules(accounts=(ACCOUNT,), expires_in=20),
    "two.example": Rules(dialect="basic", accounts=(ACCOUNT,)),
    "three.example": Rules(expires_in=None, post=False),
}


async def soak(seconds: float, rate: float, seed: int, output: Path) -> int:
    """Run it; the exit status."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    async with AsyncExitStack() as stack:
        sites = [
            Site(name, rules, await stack.enter_async_context(Registry((), rules)), chance)
            for name, rules in RULES.items()
        ]
        for site in sites:
            for _ in range(FIRST_IMAGES):
                site.grow()
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scope-proxy-soak-")))
        program = Program(directory, sites, chance)
        stack.callback(program.kill)
        report = Report(seconds, rate, seed, output)
        await Soak(program, sites, chance, report).run(seconds, rate)
    report.write()
    report.show()
    return 1 if report.problems else 0


def main() -> int:
    """Read the command line, run the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=7200.0)
    parser.add_argument("--rate", type=float, default=24.0, help="clients a second")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="to repeat the choices of a run")
    parser.add_argument("--output", type=Path, default=Path("dist/soak"), help="directory of soak.json")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    return asyncio.run(soak(options.seconds, options.rate, options.seed, options.output))


if __name__ == "__main__":
    sys.exit(main())
