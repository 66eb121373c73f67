"""Commands that need threads, as every event loop of ours does: they say so where the system lets none start."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from proxy.runtime.sockets import StartError
from proxy.runtime.threads import threads_needed

EXIT_START = 1
"""Exit status when the configuration is right and the program cannot start."""


@contextmanager
def threads_or_exit() -> Iterator[None]:
    """A block with threads, which every event loop needs; StartError ends the command with status 1 and one line."""
    try:
        with threads_needed():
            yield
    except StartError as error:
        click.echo(f"scope-proxy: {error}", err=True)
        raise click.exceptions.Exit(EXIT_START) from None
