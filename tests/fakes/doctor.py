"""Runs `scope-proxy doctor` as a script would, beside servers in the event loop of the test."""

import asyncio
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from proxy.cli.doctor import EXIT_FAILED
from proxy.cli.main import main
from proxy.config.load import parse_config
from proxy.doctor.run import TimeLimits, examine_all
from proxy.doctor.subject import choose
from tests.fakes.canaries import assert_no_secret
from tests.fakes.proxy import LOGIN, NAME, REG, settings
from tests.fakes.registry import ScriptedRegistry

IMAGE = f"{REG}/{NAME}:1"


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """What the doctor said of one check of one endpoint."""

    outcome: str
    seen: str
    advice: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the command printed, as data, and its exit status."""

    status: int
    data: Mapping[str, Any]

    def all(self, check: str, host: int = 0) -> list[ReportedFinding]:
        """Everything that was said of a check of one endpoint."""
        findings = self.data["hosts"][host]["findings"]
        return [
            ReportedFinding(each["outcome"], each["seen"], each["advice"], each["facts"])
            for each in findings
            if each["check"] == check
        ]

    def of(self, check: str, host: int = 0) -> ReportedFinding:
        """What was said of a check that speaks once."""
        (finding,) = self.all(check, host)
        return finding

    def outcomes(self, host: int = 0) -> dict[str, str]:
        """How the checks of one endpoint went; of several findings the last one counts."""
        return {each["check"]: each["outcome"] for each in self.data["hosts"][host]["findings"]}

    def failed(self, host: int = 0) -> set[str]:
        """The checks that failed."""
        return {check for check, outcome in self.outcomes(host).items() if outcome == "failed"}


def run(configuration: Mapping[str, Any], *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status and output of the command; no secret may stand in it."""
    with tempfile.TemporaryDirectory(prefix="doctor-") as directory:
        file = Path(directory) / "config.yaml"
        file.write_text(json.dumps(configuration))
        result = CliRunner().invoke(main, ["doctor", *arguments, "--config", str(file)], env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert_no_secret(result.output)
    return result.exit_code, result.output


def run_and_read(configuration: Mapping[str, Any], *arguments: str, env: Mapping[str, str] | None = None) -> Diagnosis:
    """What the command finds out."""
    status, output = run(configuration, *arguments, "--json", env=env)
    return Diagnosis(status, json.loads(output))


async def diagnosed_within(limits: TimeLimits, configuration: Mapping[str, Any], image: str) -> Diagnosis:
    """The same without the command, with other time limits."""
    loaded = await asyncio.to_thread(parse_config, json.dumps(configuration), "test.yaml")
    report = await examine_all(loaded.config, choose(loaded, image), {}, limits)
    data = json.loads(json.dumps(report.as_dict()))
    return Diagnosis(EXIT_FAILED if report.failed else 0, data)


async def diagnosed(
    configuration: Mapping[str, Any], *arguments: str, env: Mapping[str, str] | None = None
) -> Diagnosis:
    """The same beside servers in this event loop; the command has a loop of its own, in a thread."""
    return await asyncio.to_thread(run_and_read, configuration, *arguments, env=env)


async def examined(registry: ScriptedRegistry, *arguments: str, **more: Any) -> Diagnosis:
    """What the command reports of a registry, with the password of its account."""
    return await diagnosed(settings([registry.url], login=LOGIN, **more), *(arguments or (IMAGE,)))
