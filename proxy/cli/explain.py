"""`scope-proxy explain IMAGE`: what a pull would do, without any network."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from proxy.cli.options import configuration_options, source_of
from proxy.oci.errors import RegistryError
from proxy.oci.reference import ImageReference
from proxy.routing.explain import Explanation, explain_image


@click.command()
@click.argument("image")
@configuration_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def explain(image: str, config: Path | None, registries: Path | None, *, as_json: bool) -> None:
    """Show where IMAGE is pulled from, by which rule, and with which scope; status 1 if it cannot be pulled."""
    loaded = source_of(config, registries).load_or_exit()
    try:
        explanation = explain_image(loaded.config, loaded.positions, ImageReference.parse(image))
    except RegistryError as error:
        click.echo(f"{image}: {error.code}: {error.reason}", err=True)
        raise click.exceptions.Exit(1) from None
    if as_json:
        click.echo(json.dumps(explanation.as_dict(), indent=2))
    else:
        _print(explanation)


def _print(explanation: Explanation) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{explanation.image}[/bold]")
    for line in explanation.trace:
        console.print(f"  {line}")
    for number, endpoint in enumerate(explanation.endpoints, start=1):
        table = Table.grid(padding=(0, 2))
        table.add_row("endpoint", f"{endpoint.url}  ({endpoint.place})")
        table.add_row("rule", endpoint.rule)
        table.add_row("request", endpoint.request)
        table.add_row("scope asked", f"[green]{endpoint.scope}[/green]")
        table.add_row("credential", endpoint.credential)
        table.add_row("unpatched containerd", f"[yellow]{'  '.join(endpoint.unpatched_rewriting)}[/yellow]")
        table.add_row("  without node rewrite", f"[yellow]{'  '.join(endpoint.unpatched_plain)}[/yellow]")
        console.print(f"endpoint {number} of {len(explanation.endpoints)}")
        console.print(table)
