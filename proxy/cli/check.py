"""`scope-proxy check`: validate a configuration without starting anything."""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from proxy.cli.options import EXIT_CONFIG, configuration_options, source_of
from proxy.config.effective import render_effective
from proxy.config.findings import Findings
from proxy.config.loaded import Loaded
from proxy.config.secrets_check import check_secrets
from proxy.server.certificates import judge
from proxy.server.tls import tls_setting
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.session import load_tls

EXIT_WARNINGS = 1
"""Exit status of `--strict` when there are warnings and no errors."""


@click.command()
@configuration_options
@click.option("--effective", is_flag=True, help="Print the configuration in force, without secrets.")
@click.option("--strict", is_flag=True, help="Fail on warnings too, with status 1.")
def check(config: Path | None, registries: Path | None, *, effective: bool, strict: bool) -> None:
    """Validate the configuration: every error at once, with file, line and column; status 2 if there are any.

    Secrets, certificates and forward proxies are looked at as they are on this machine; no registry is asked.
    """
    source = source_of(config, registries)
    loaded = source.load_or_exit()
    certificates = Findings(loaded.positions)
    surroundings = [*_surroundings(loaded), *_certificates(loaded, certificates)]
    notes = [*loaded.notes, *check_secrets(loaded), *certificates.sorted_notes()]
    for note in notes:
        click.echo(str(note), err=True)
    for problem in surroundings:
        click.echo(f"{source.path}: {problem}", err=True)
    if effective:
        click.echo(render_effective(loaded), nl=False)
    warnings = sum(note.severity == "warning" for note in notes)
    names = ", ".join(loaded.config.registries) or "none"
    verdict = "cannot be used here" if surroundings else "ok"
    click.echo(f"{source.path}: {verdict}, {warnings} warning(s); registries: {names}", err=effective)
    if surroundings:
        raise click.exceptions.Exit(EXIT_CONFIG)
    if strict and warnings:
        raise click.exceptions.Exit(EXIT_WARNINGS)


def _certificates(loaded: Loaded, findings: Findings) -> Iterator[str]:
    """What is wrong with the certificates of the listeners; those that end soon are findings."""
    for number, listener in enumerate(loaded.config.listeners):
        if listener.tls is None:
            continue
        try:
            judged = judge(listener.tls, tls_setting(number))
        except ValueError as error:
            yield f"error: {error}"
            continue
        if judged.has_ended:
            yield f"error: {tls_setting(number)}.certFile: {judged.notice}"
        elif judged.notice is not None:
            findings.warning(("listeners", number, "tls", "certFile"), judged.notice)


def _surroundings(loaded: Loaded) -> Iterator[str]:
    """What would keep the program from starting here, though the file is right."""
    try:
        load_tls(loaded.config)
    except ValueError as error:
        yield f"error: {error}"
    try:
        proxies = ForwardProxies.from_environment(os.environ)
    except ValueError as error:
        yield f"error: {error}"
    else:
        if proxies.by_scheme:
            click.echo(
                "info: requests go through a forward proxy (HTTPS_PROXY, HTTP_PROXY): it resolves names, so the "
                "addresses that registries redirect to cannot be judged here",
                err=True,
            )
