"""What commands share: the options for the configuration and the proxy's address, and how errors are printed."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from proxy.config.base import exact_origin
from proxy.config.cache import Cache
from proxy.config.errors import ConfigError, Problem
from proxy.config.files import NO_SUCH_FILE
from proxy.config.load import Loaded, load_config
from proxy.k3s.registries_yaml import import_registries
from proxy.runtime.sockets import StartError, threads_needed

DEFAULT_CONFIG = "/etc/scope-proxy/config.yaml"
EXIT_CONFIG = 2
"""Exit status for an unusable configuration."""
PROBLEMS_SHOWN = 100
"""Maximum number of problems printed; the others are counted."""

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Source:
    """The file that holds the configuration, and whether it is a registries.yaml."""

    path: Path
    is_registries: bool
    is_default: bool = False
    """Whether neither an option nor the environment names the file."""

    def load(self) -> Loaded:
        """Read it; raises ConfigError."""
        return import_registries(self.path) if self.is_registries else load_config(self.path)

    def load_or_exit(self, change: Callable[[Loaded], Loaded] = lambda loaded: loaded) -> Loaded:
        """Read it and change it; prints errors to standard error and exits with status 2."""
        try:
            return change(self.load())
        except ConfigError as error:
            exit_with(tuple(map(self._with_advice, error.problems)))

    def _with_advice(self, problem: Problem) -> str:
        """The problem; if the default file does not exist, with how to name another one."""
        is_missing = self.is_default and problem.message == NO_SUCH_FILE
        return f"{problem}: name another one with --config or --registries" if is_missing else str(problem)


def exit_with(problems: Sequence[str]) -> NoReturn:
    """Print the problems of an unusable configuration to standard error and exit with status 2."""
    for problem in problems[:PROBLEMS_SHOWN]:
        click.echo(problem, err=True)
    click.echo(f"scope-proxy: {len(problems)} error(s) in the configuration", err=True)
    sys.exit(EXIT_CONFIG)


def cache_or_exit(loaded: Loaded) -> Cache:
    """The section `cache`; without one, prints an error and exits with status 2."""
    if loaded.config.cache is None:
        click.echo("scope-proxy: no cache is configured: set cache: {path: ...}", err=True)
        raise click.exceptions.Exit(EXIT_CONFIG)
    return loaded.config.cache


def configuration_options(command: Command) -> Command:
    """The options `--config` and `--registries`; the command gets `config` and `registries`."""
    command = click.option(
        "--registries",
        type=click.Path(path_type=Path),
        help="A registries.yaml of k3s or RKE2, read unchanged, in place of --config.",
    )(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar="SCOPE_PROXY_CONFIG",
        help=f"The configuration; default {DEFAULT_CONFIG}, or the environment variable SCOPE_PROXY_CONFIG.",
    )(command)


def source_of(config: Path | None, registries: Path | None) -> Source:
    """Where the configuration comes from; `--registries` goes before the environment variable."""
    if registries is not None:
        context = click.get_current_context()
        if context.get_parameter_source("config") is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("give --config or --registries, not both")
        return Source(registries, is_registries=True)
    return Source(config or Path(DEFAULT_CONFIG), is_registries=False, is_default=config is None)


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
        help="The proxy's URL on the node; several are tried in order.",
    )(command)


def _origins(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(exact_origin(value) for value in values))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


EXIT_START = 1
"""Exit status when the configuration is valid and the program cannot start."""


@contextmanager
def threads_or_exit() -> Iterator[None]:
    """A block with threads, which every event loop needs; StartError ends the command with status 1 and one line."""
    try:
        with threads_needed():
            yield
    except StartError as error:
        click.echo(f"scope-proxy: {error}", err=True)
        raise click.exceptions.Exit(EXIT_START) from None
