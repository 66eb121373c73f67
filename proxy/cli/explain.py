"""`scope-proxy explain IMAGE`: what a pull would do, without any network."""

import json
from pathlib import Path

import click

from proxy.cli.main import FileCommand
from proxy.cli.options import configuration_options, source_of
from proxy.oci.errors import RegistryError
from proxy.oci.login import ANONYMOUS_NAME
from proxy.oci.reference import ImageReference
from proxy.routing.explain import Explanation, explain_image, explanation_lines

_COLOURS = {"good": "green", "bad": "red", "doubtful": "yellow"}


@click.command(cls=FileCommand)
@click.argument("image")
@configuration_options
@click.option(
    "--client",
    default=ANONYMOUS_NAME,
    metavar="NAME",
    help=f"For whom the access rules decide; default {ANONYMOUS_NAME}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def explain(image: str, config: Path | None, registries: Path | None, client: str, *, as_json: bool) -> None:
    """Show where IMAGE is pulled from, by which rule, and with which scope; status 1 if it cannot be pulled."""
    loaded = source_of(config, registries).load_or_exit()
    try:
        explanation = explain_image(loaded.config, loaded.positions, ImageReference.parse(image), client)
    except RegistryError as error:
        click.echo(f"{image}: {error.code}: {error.reason}", err=True)
        raise click.exceptions.Exit(1) from None
    if as_json:
        click.echo(json.dumps(explanation.as_dict(), indent=2))
    else:
        _print(explanation)
    if not explanation.access.allowed:
        raise click.exceptions.Exit(1)


def _print(explanation: Explanation) -> None:
    for line in explanation_lines(explanation, _styled):
        click.echo(line)


def _styled(text: str, tone: str) -> str:
    return click.style(text, bold=True) if tone == "title" else click.style(text, fg=_COLOURS[tone])
