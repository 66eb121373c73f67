"""`scope-proxy convert`: converts a node's registries.yaml to the proxy's configuration and the node's new file."""

from pathlib import Path

import click

from proxy.cli.options import EXIT_CONFIG, PROBLEMS_SHOWN, proxy_options
from proxy.config.base import exact_origin
from proxy.config.errors import ConfigError
from proxy.config.files import read_source
from proxy.k3s.conversion import convert as converted
from proxy.k3s.output_parts import CHANGES_NAME, OutputPart, conflicting_files, node_diff, parts, tree, write
from proxy.k3s.result import Conversion, Settings

EXIT_QUESTIONS = 1
"""Exit status when the operator has to decide something, or when a file already exists with other content."""
_INSTANCE = "default"


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@proxy_options
@click.option("--values", is_flag=True, help="Values of the chart in place of the proxy's configuration.")
@click.option("--diff", is_flag=True, help="Show only how the node's file changes, without secrets.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Write the parts as files.")
@click.option(
    "--hosts-toml",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a hosts.toml for each registry, for containerd without k3s.",
)
@click.option("--force", is_flag=True, help="Overwrite files that have different content.")
@click.option("--ca-file", metavar="PATH", help="Path on the nodes of the CA certificate of https proxies.")
@click.option(
    "--secrets-dir",
    default=Settings().secrets_directory,
    show_default=True,
    metavar="DIR",
    help="Directory in which the proxy reads its secrets.",
)
@click.option("--realm", multiple=True, metavar="HOST=URL", help="A token server on another origin than its registry.")
def convert(
    file: Path,
    *,
    proxy: tuple[str, ...],
    values: bool,
    diff: bool,
    output: Path | None,
    hosts_toml: Path | None,
    force: bool,
    ca_file: str | None,
    secrets_dir: str,
    realm: tuple[str, ...],
) -> None:
    """Convert FILE, a registries.yaml of k3s or RKE2, to the proxy's configuration and the node's new file.

    The parts go to standard output as YAML, what changed and why to standard error. Status 0, 1 with open questions,
    2 if it cannot be converted.
    """
    conversion, text = _convert(file, Settings(proxy, ca_file, secrets_dir, tuple(map(_realm, realm))))
    if diff:
        click.echo(node_diff(text, conversion.node, str(file)), nl=False)
    else:
        _deliver(conversion, parts(conversion, values=values), output, force=force)
        if hosts_toml is not None:
            _write(hosts_toml, tree(conversion.config, proxy, _INSTANCE), force=force)
    questions = conversion.questions
    for change in conversion.changes:
        click.echo(str(change), err=True)
    click.echo(f"{file}: converted, {questions} open question(s)", err=True)
    if questions:
        raise click.exceptions.Exit(EXIT_QUESTIONS)


def _convert(file: Path, settings: Settings) -> tuple[Conversion, str]:
    try:
        text = read_source(file)
        return converted(text, str(file), settings), text
    except ConfigError as error:
        for problem in error.problems[:PROBLEMS_SHOWN]:
            click.echo(str(problem), err=True)
        click.echo(f"scope-proxy: {len(error.problems)} error(s), nothing is converted", err=True)
        raise click.exceptions.Exit(EXIT_CONFIG) from None


def _deliver(conversion: Conversion, made: tuple[OutputPart, ...], output: Path | None, *, force: bool) -> None:
    if output is None:
        for part in made:
            click.echo(f"---\n# {part.name}: {part.title}\n{part.text}", nl=False)
        return
    lines = "".join(f"{change}\n" for change in conversion.changes)
    _write(output, (*made, OutputPart(CHANGES_NAME, "what changed and why", lines)), force=force)


def _write(directory: Path, made: tuple[OutputPart, ...], *, force: bool) -> None:
    """Write all parts, or none where a file exists with different content."""
    conflicts = [] if force else conflicting_files(directory, made)
    for path in conflicts:
        click.echo(f"scope-proxy: {path} exists with different content: review it, then use --force", err=True)
    if conflicts:
        raise click.exceptions.Exit(EXIT_QUESTIONS)
    try:
        for part in made:
            click.echo(f"{write(directory, part)}", err=True)
    except OSError as error:
        click.echo(f"scope-proxy: {error.filename}: {error.strerror}", err=True)
        raise click.exceptions.Exit(EXIT_CONFIG) from None


def _realm(value: str) -> tuple[str, str]:
    host, equals, url = value.partition("=")
    if not equals or not host:
        raise click.BadParameter("write HOST=URL, such as registry.example.com=https://auth.example.com")
    try:
        return host, exact_origin(url)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
