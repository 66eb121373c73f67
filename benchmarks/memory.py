"""Peak resident memory of the proxy while large blobs pass through it: `python benchmarks/memory.py`.

A strict registry and the clients run in this process, the proxy in one of its own. The figure is `VmHWM` of
/proc/PID/status: the most that was ever resident, start-up included. Every byte that a client gets is hashed.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from benchmarks.process import resident
from proxy.testbed.tokens import Account, Rules
from tests.fakes.blobs import Generated, image_of_layers
from tests.fakes.registry import ScriptedRegistry

MIB = 1024 * 1024
GOAL_MIB = 80.0
READY_SECONDS = 15.0
READ_SECONDS = 300.0
REPOSITORY = "library/large"


@dataclass(frozen=True, slots=True)
class Result:
    """One run; sizes in MiB, time in seconds."""

    clients: int
    blob_mib: int
    idle_mib: float
    peak_mib: float
    seconds: float
    exact: bool


async def measure(size: int, clients: int) -> Result:
    """Send a blob of `size` bytes to so many clients at once through a fresh proxy."""
    async with ScriptedRegistry([], Rules(refuse=404, accounts=(Account("robot", "secret"),))) as registry:
        layer = registry.add_blob(REPOSITORY, Generated(size))
        registry.add(image_of_layers(REPOSITORY, "1", layer))
        with tempfile.TemporaryDirectory() as directory:
            config = Path(directory) / "config.yaml"
            config.write_text(json.dumps(_configuration(registry.url)))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve", "--config", str(config), stderr=asyncio.subprocess.PIPE
            )
            try:
                url = await _ready(process)
                idle = resident(process.pid, "VmRSS")
                seconds, exact = await _read(f"{url}/v2/{REPOSITORY}/blobs/{layer.digest}?ns=docker.io", clients)
                return Result(clients, size // MIB, idle, resident(process.pid, "VmHWM"), seconds, exact)
            finally:
                process.terminate()
                await process.wait()


def _configuration(endpoint: str) -> dict[str, object]:
    credentials = {"username": "robot", "password": "secret"}
    return {
        "version": 1,
        "listeners": [{"address": "127.0.0.1:0"}],
        "admin": None,
        "registries": {"docker.io": {"endpoints": [endpoint]}},
        "hosts": {endpoint.removeprefix("http://"): {"credentials": credentials}},
        "log": {"format": "text"},
    }


async def _ready(process: asyncio.subprocess.Process) -> str:
    """The proxy's URL, from the line in which it says where it listens."""
    if process.stderr is None:
        raise RuntimeError("the proxy was started without a pipe")
    async with asyncio.timeout(READY_SECONDS):
        async for line in process.stderr:
            if b"listens on " in line:
                return "http://" + line.decode().rpartition("listens on ")[2].strip()
    raise RuntimeError("the proxy ended before it listened")


async def _read(url: str, clients: int) -> tuple[float, bool]:
    """Read the blob so many times at once: seconds for all, and whether every copy has the digest."""
    started = asyncio.get_running_loop().time()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=READ_SECONDS)) as session:
        digests = await asyncio.gather(*(_digest(session, url) for _ in range(clients)))
    seconds = asyncio.get_running_loop().time() - started
    return seconds, all(f"sha256:{digest}" in url for digest in digests)


async def _digest(session: aiohttp.ClientSession, url: str) -> str:
    hasher = hashlib.sha256()
    async with session.get(url) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            hasher.update(chunk)
    return hasher.hexdigest()


def main() -> int:
    """Print a table and JSON; exit status 1 when the goal is missed or a byte is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the blob in MiB")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4], help="clients at once, one run for each")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    arguments = parser.parse_args()
    results = [asyncio.run(measure(arguments.mib * MIB, clients)) for clients in arguments.clients]
    table = Table(title=f"Resident memory while a {arguments.mib} MiB blob passes through (goal < {GOAL_MIB:.0f} MiB)")
    for heading in ("clients", "idle MiB", "peak MiB", "seconds", "bytes"):
        table.add_column(heading, justify="right")
    for result in results:
        figures = (f"{result.idle_mib:.1f}", f"{result.peak_mib:.1f}", f"{result.seconds:.1f}")
        table.add_row(str(result.clients), *figures, "exact" if result.exact else "WRONG")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    return 0 if all(result.exact and result.peak_mib < GOAL_MIB for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
