"""`scope-proxy check`: validate a configuration without starting anything."""

from pathlib import Path

import click

from proxy.cli.options import configuration_options, source_of
from proxy.config.effective import render_effective


@click.command()
@configuration_options
@click.option("--effective", is_flag=True, help="Print the configuration in force, without secrets.")
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
def check(config: Path | None, registries: Path | None, *, effective: bool, strict: bool) -> None:
    """Validate the configuration: every error at once, with file, line and column; status 2 if there are any."""
    source = source_of(config, registries)
    loaded = source.load_or_exit()
    for note in loaded.notes:
        click.echo(str(note), err=True)
    if effective:
        click.echo(render_effective(loaded), nl=False)
    warnings = sum(note.severity == "warning" for note in loaded.notes)
    names = ", ".join(loaded.config.registries) or "none"
    click.echo(f"{source.path}: ok, {warnings} warning(s); registries: {names}", err=effective)
    if strict and warnings:
        raise click.exceptions.Exit(1)
