"""Where nodes find the proxy: the option `--proxy`."""

import click

from proxy.cli.options import Command
from proxy.config.base import exact_origin

PROXY_DEFAULT = "http://127.0.0.1:5000"


def proxy_options(command: Command) -> Command:
    """The option `--proxy`, which may be repeated; the command gets `proxy`, at least one URL without a path."""
    return click.option(
        "--proxy",
        multiple=True,
        default=(PROXY_DEFAULT,),
        show_default=True,
        metavar="URL",
        callback=_origins,
        help="Where the node finds the proxy; more than one are asked in order.",
    )(command)


def _origins(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(exact_origin(value) for value in values))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
