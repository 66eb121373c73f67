"""`scope-proxy doctor [HOST | IMAGE]`: test the configured registries and report what to fix."""

import asyncio
import json
import os
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.cli.main import FileCommand
from proxy.cli.options import EXIT_CONFIG, configuration_options, exit_with, source_of, threads_or_exit
from proxy.config.load import Loaded
from proxy.doctor.report import Check, HostReport, Outcome, Report
from proxy.doctor.run import examine_all
from proxy.doctor.subject import HostUnknown, Subject, choose
from proxy.oci.errors import RegistryError
from proxy.runtime.preflight import preflight

EXIT_FAILED = 1
"""Exit status when a check failed."""

_STYLES = {Outcome.PASSED: "green", Outcome.WARNED: "yellow", Outcome.FAILED: "bold red", Outcome.SKIPPED: "dim"}
_OUTCOME_WIDTH = max(map(len, Outcome))
_CHECK_WIDTH = max(map(len, Check))


@click.command(cls=FileCommand)
@click.argument("what", metavar="[HOST | IMAGE]", required=False)
@configuration_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def doctor(what: str | None, config: Path | None, registries: Path | None, *, as_json: bool) -> None:
    """Test the registries of the configuration, and report what fails and what to do; status 1 if a check failed.

    HOST is an endpoint's host, or a registry. With an IMAGE, doctor makes its pull step by step, which costs one or two
    requests that registries count as pulls.
    """
    loaded = source_of(config, registries).load_or_exit()
    subjects = _choose(loaded, what)
    if problems := preflight(loaded):
        exit_with(problems)
    report = _examine(loaded, subjects)
    if as_json:
        click.echo(json.dumps({"asked": what, **report.as_dict()}, indent=2))
    else:
        _print(report)
    if report.failed:
        raise click.exceptions.Exit(EXIT_FAILED)


def _choose(loaded: Loaded, what: str | None) -> tuple[Subject, ...]:
    try:
        subjects = choose(loaded, what)
    except HostUnknown as error:
        raise click.UsageError(str(error)) from None
    except RegistryError as error:
        click.echo(f"{what}: {error.code}: {error.reason}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED) from None
    if not subjects:
        click.echo("scope-proxy: the configuration has no registries: nothing to test", err=True)
        raise click.exceptions.Exit(EXIT_CONFIG)
    return subjects


def _examine(loaded: Loaded, subjects: tuple[Subject, ...]) -> Report:
    waiting = Console(stderr=True)
    hosts = ", ".join(dict.fromkeys(subject.host for subject in subjects))
    status = waiting.status(Text(f"testing {hosts}")) if waiting.is_terminal else nullcontext()
    with threads_or_exit(), status:
        return asyncio.run(examine_all(loaded.config, subjects, os.environ))


def _print(report: Report) -> None:
    console = Console(highlight=False)
    for host in report.hosts:
        title = f"{host.url}  ({host.place})"
        if host.repository is not None:
            title += f"  repository {host.repository}"
        if console.is_terminal:
            console.print(Text(title, style="bold"))
            console.print(_table(host))
        else:
            click.echo(title)
            _print_lines(host)
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in Outcome)
    click.secho(counts, bold=True)


def _table(host: HostReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in host.findings:
        style = _STYLES[finding.outcome]
        seen = Text(finding.seen, style="dim" if finding.outcome is Outcome.SKIPPED else "")
        if finding.advice:
            seen.append(f"\n{finding.advice}", style="bold")
        table.add_row(Text(f"  {finding.outcome}", style=style), Text(finding.check), seen)
    return table


def _print_lines(host: HostReport) -> None:
    for finding in host.findings:
        advice = f" -> {finding.advice}" if finding.advice else ""
        outcome, check = f"{finding.outcome:<{_OUTCOME_WIDTH}}", f"{finding.check:<{_CHECK_WIDTH}}"
        click.echo(f"  {outcome}  {check}  {finding.seen}{advice}")
