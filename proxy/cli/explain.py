"""`scope-proxy explain IMAGE`: what a pull would do, without any network."""

import json
from pathlib import Path

import click

from proxy.cli.options import configuration_options, source_of
from proxy.oci.errors import RegistryError
from proxy.oci.reference import ImageReference
from proxy.routing.explain import EndpointExplanation, Explanation, explain_image

LABEL_WIDTH = 26
"""Columns of the labels."""


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
    click.secho(explanation.image, bold=True)
    for line in explanation.trace:
        click.echo(f"  {line}")
    for number, endpoint in enumerate(explanation.endpoints, start=1):
        click.echo(f"endpoint {number} of {len(explanation.endpoints)}")
        for label, value in _rows(endpoint):
            click.echo(f"  {label:<{LABEL_WIDTH}}{value}")


def _rows(endpoint: EndpointExplanation) -> tuple[tuple[str, str], ...]:
    return (
        ("URL", f"{endpoint.url}  ({endpoint.place})"),
        ("rewrite", endpoint.rule),
        ("request", endpoint.request),
        ("scope asked", click.style(endpoint.scope, fg="green")),
        ("credential", endpoint.credential),
        ("unpatched containerd would ask", ""),
        ("  rewriting on the node", click.style("  ".join(endpoint.unpatched_rewriting), fg="yellow")),
        ("  not rewriting", click.style("  ".join(endpoint.unpatched_plain), fg="yellow")),
    )
