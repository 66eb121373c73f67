"""Debian's Prometheus, on loopback and in a scratch directory."""

import contextlib
import json
import math
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.real.processes import Process, answers, free_port, scratch

INTERVAL = "1s"
"""How often it reads its targets and evaluates its rules."""
TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an answer, with its value now."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str, process: Process) -> None:
        self.url = url
        self.process = process

    def ask(self, query: str) -> list[Sample]:
        """The answer to a query; AssertionError with Prometheus's own words where it is none."""
        data = self._get(f"query?{urlencode({'query': query})}")
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    def values(self, query: str) -> list[float]:
        """The values of the series of an answer, as far as they are numbers."""
        return [sample.value for sample in self.ask(query) if math.isfinite(sample.value)]

    def rules(self) -> list[dict[str, Any]]:
        """The rules that it has loaded, with their state."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Errors())
        with opener.open(f"{self.url}/api/v1/{path}", timeout=TIMEOUT) as response:
            answer = json.load(response)
        assert answer["status"] == "success", f"{path}: {answer.get('error')}"
        data: dict[str, Any] = answer["data"]
        return data


class _Errors(urllib.request.HTTPErrorProcessor):
    """Lets answers with an error be read as others."""

    def http_response(self, request: object, response: Any) -> Any:  # noqa: ARG002 - the library's signature
        return response


@contextlib.contextmanager
def prometheus(jobs: Mapping[str, str], rules: Path) -> Iterator[Prometheus]:
    """A Prometheus that reads targets (`host:port` by the name of their job) and evaluates a file of rules."""
    address = f"127.0.0.1:{free_port()}"
    scraped = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in jobs.items()]
    settings = {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [str(rules)],
        "scrape_configs": scraped,
    }
    with scratch("prometheus") as directory:
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(settings))  # JSON is YAML
        arguments = {
            "config.file": str(file),
            "storage.tsdb.path": str(directory / "data"),
            "web.listen-address": address,
            "log.level": "warn",
        }
        command = ["prometheus", *(f"--{name}={value}" for name, value in arguments.items())]
        process = Process(command, log=directory / "log", cwd=directory)
        try:
            process.wait_ready(lambda: answers(f"http://{address}/-/ready", 200))
            yield Prometheus(f"http://{address}", process)
        finally:
            process.stop()
