"""The proxy of the soak: two workers, a cache that is too small, and a configuration that changes."""

import json
import random
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.soak.samples import workers
from benchmarks.soak.site import Site
from tests.fakes.proxy import REWRITES, authority
from tests.real.processes import PROBE_TIMEOUT, Process, answers, free_port

WORKERS = 2
CACHE_SIZE = "64Mi"
"""About a dozen large layers: the registries hold hundreds."""
STOP_SECONDS = 60.0
ERROR_END = 1500
"""Characters that are kept of a line with an error: its end, where a traceback names the exception."""
BROKEN = 0.2
"""Share of the reloads whose configuration cannot be used, so that the one before has to stay."""


class Program:
    """`python -m proxy serve`, as it is installed."""

    def __init__(self, directory: Path, sites: Sequence[Site], chance: random.Random) -> None:
        self.address, self.admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.log = directory / "proxy.log"
        self._cache = directory / "cache"
        self._config = directory / "config.yaml"
        self._sites = sites
        self._chance = chance
        self._write(self._document())
        self._process = Process([sys.executable, "-m", "proxy", "serve", "--config", str(self._config)], log=self.log)

    def wait_ready(self) -> list[int]:
        """Wait until every worker serves; their process ids."""
        self._process.wait_ready(lambda: answers(f"http://{self.admin}/readyz", 200))
        self._process.wait_ready(lambda: len(workers(self._process.pid)) == WORKERS)
        return workers(self._process.pid)

    def workers(self) -> list[int]:
        """The process ids of the workers now; none once the program has ended."""
        return [] if self._process.has_ended() else workers(self._process.pid)

    def reload(self) -> str:
        """Put another configuration in its place and send SIGHUP; what sort it is."""
        is_broken = self._chance.random() < BROKEN
        document = self._document()
        self._write(document | {"registries": 1} if is_broken else document)
        self._process.send(signal.SIGHUP)
        return "broken" if is_broken else "changed"

    def metrics(self) -> Counter[str]:
        """The sums of all metrics over their labels."""
        sums = Counter[str]()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.admin}/metrics", timeout=PROBE_TIMEOUT * 5) as response:
            for line in response.read().decode().splitlines():
                if not line.startswith("#"):
                    series, _, value = line.rpartition(" ")
                    sums[series.partition("{")[0]] += float(value)  # type: ignore[assignment] # a sum, not a count
        return sums

    def stop(self) -> int:
        """End it with SIGTERM; its exit status, subprocess.TimeoutExpired where it does not end."""
        if not self._process.has_ended():
            self._process.send(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it, whatever it does."""
        if not self._process.has_ended():
            self._process.stop()

    def errors(self) -> Iterator[str]:
        """Lines of its log that tell of a bug."""
        with self.log.open(errors="replace") as lines:
            yield from (line.rstrip()[-ERROR_END:] for line in lines if "Traceback" in line or "a bug" in line)

    def _write(self, document: dict[str, Any]) -> None:
        fresh = self._config.with_suffix(".new")
        fresh.write_text(json.dumps(document))  # JSON is YAML
        fresh.rename(self._config)

    def _document(self) -> dict[str, Any]:
        """A configuration that serves all registries; what does not matter to a pull is another each time."""
        chance = self._chance
        registries: dict[str, Any] = {
            site.name: {"endpoints": [site.registry.url], "rewrites": list(REWRITES)} for site in self._sites
        }
        if chance.choice([True, False]):
            registries["extra.example"] = {"endpoints": [self._sites[0].registry.url]}
        hosts = {authority(site.registry.url): _host(site, chance) for site in self._sites}
        return {
            "version": 1,
            "listeners": [{"address": self.address}],
            "admin": {"address": self.admin},
            "workers": WORKERS,
            "registries": registries,
            "hosts": hosts,
            "cache": {
                "path": str(self._cache),
                "maxSize": CACHE_SIZE,
                "tagAge": chance.choice(["1s", "5s", "1m"]),
                "verify": chance.choice(["ingest", "firstRead", "always"]),
                "finishAbandoned": chance.choice([True, False]),
            },
            "timeouts": {"manifest": "4s", "blob": "6s", "stall": "2s", "connect": "2s", "drainIdle": "1s"},
            "log": {"level": "info"},
        }


def _host(site: Site, chance: random.Random) -> dict[str, Any]:
    accounts = site.rules.accounts
    login = {"username": accounts[0].username, "password": accounts[0].password} if accounts else None
    return {"maxConnections": chance.choice([16, 32]), **({"credentials": login} if login else {})}
