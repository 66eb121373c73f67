"""One run of the soak: clients, faults, reloads and samples at the same time, then the end of the program."""

import asyncio
import random
import subprocess
import time
from collections.abc import Sequence

from benchmarks.process import cpu_seconds
from benchmarks.soak.faults import disturb
from benchmarks.soak.nodes import Nodes
from benchmarks.soak.program import Program
from benchmarks.soak.report import Report
from benchmarks.soak.samples import Sampler
from benchmarks.soak.site import Site

SAMPLE_SECONDS = 10.0
SAMPLES = 40
"""At least so many in a short run."""
GROW_SECONDS = 12.0
RELOAD_SECONDS = 30.0
MOST_CLIENTS = 96
"""Clients at one time; further ones do not come."""
QUIET_SECONDS = 60.0
IN_FLIGHT = (
    "scope_proxy_http_requests_in_flight",
    "scope_proxy_downloads_in_flight",
    "scope_proxy_coalesced_waiters",
    "scope_proxy_upstream_in_flight",
    "scope_proxy_upstream_queue",
)
"""Gauges that are 0 once all clients have disconnected."""


class Soak:
    """A proxy, its registries, and what happens to them."""

    def __init__(self, program: Program, sites: Sequence[Site], chance: random.Random, report: Report) -> None:
        self._program = program
        self._sites = sites
        self._chance = chance
        self._report = report
        self._nodes = Nodes(program.address, sites, chance, report.tally)
        self._pids: list[int] = []
        self._started = 0.0

    async def run(self, seconds: float, rate: float) -> None:
        """Put the proxy under load for so long, then end it."""
        self._pids = await asyncio.to_thread(self._program.wait_ready)
        self._started = time.monotonic()
        deadline = self._started + seconds
        async with asyncio.TaskGroup() as around:
            endless = [around.create_task(disturb(site, self._chance, self._report.phases)) for site in self._sites]
            endless.append(around.create_task(self._change()))
            endless.append(around.create_task(self._grow()))
            endless.append(around.create_task(self._watch(min(SAMPLE_SECONDS, seconds / SAMPLES))))
            await self._load(deadline, rate)
            for task in endless:
                task.cancel()
        await self._await_quiet()
        await self._stop()

    async def _load(self, deadline: float, rate: float) -> None:
        slots = asyncio.Semaphore(MOST_CLIENTS)

        async def come_and_go() -> None:
            try:
                await self._nodes.one()
            finally:
                slots.release()

        async with asyncio.TaskGroup() as clients:
            while time.monotonic() < deadline and not self._report.has_died:
                if slots.locked():
                    self._report.tally.add("any", "did not come")
                else:
                    await slots.acquire()
                    clients.create_task(come_and_go())
                await asyncio.sleep(self._chance.expovariate(rate))

    async def _change(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            self._report.reloads[self._program.reload()] += 1

    async def _grow(self) -> None:
        while True:
            await asyncio.sleep(GROW_SECONDS)
            self._chance.choice(self._sites).grow()

    async def _watch(self, pause: float) -> None:
        sampler = Sampler()
        while not self._report.has_died:
            await asyncio.sleep(pause)
            if self._program.workers() != self._pids:
                self._report.died(f"processes of the proxy ended: {self._pids} are now {self._program.workers()}")
                return
            seconds = time.monotonic() - self._started
            metrics = await asyncio.to_thread(self._program.metrics)
            self._report.add(sampler.sample(seconds, self._pids), metrics, cpu_seconds("self"))

    async def _await_quiet(self) -> None:
        """Nothing may be in flight any more, some time after the last client."""
        deadline = time.monotonic() + QUIET_SECONDS
        left: dict[str, float] = {}
        while not self._report.has_died:
            metrics = await asyncio.to_thread(self._program.metrics)
            left = {name: metrics[name] for name in IN_FLIGHT if metrics[name]}
            if not left or time.monotonic() > deadline:
                break
            await asyncio.sleep(1.0)
        if left:
            self._report.problem(f"in flight {QUIET_SECONDS:.0f} s after the last client: {left}")

    async def _stop(self) -> None:
        try:
            status = await asyncio.to_thread(self._program.stop)
        except subprocess.TimeoutExpired:
            self._report.problem("the program did not end after SIGTERM")
        else:
            if status:
                self._report.problem(f"the program ended with exit status {status}")
        self._report.judge(self._program.errors())
