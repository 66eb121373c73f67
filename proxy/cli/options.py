"""What the commands share: where the configuration is, and how its errors are shown."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from proxy.config.errors import ConfigError
from proxy.config.load import load_config
from proxy.config.loaded import Loaded
from proxy.config.registries_yaml import import_registries

DEFAULT_CONFIG = "/etc/scope-proxy/config.yaml"
EXIT_CONFIG = 2
"""Exit status for a configuration that cannot be used."""
PROBLEMS_SHOWN = 100
"""Most problems that are printed; the rest is counted."""

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Source:
    """The file that holds the configuration, and whether it is a registries.yaml."""

    path: Path
    is_registries: bool

    def load(self) -> Loaded:
        """Read it; raises ConfigError."""
        return import_registries(self.path) if self.is_registries else load_config(self.path)

    def load_or_exit(self, change: Callable[[Loaded], Loaded] = lambda loaded: loaded) -> Loaded:
        """Read it and change it; what is wrong goes to standard error, and the program ends with status 2."""
        try:
            return change(self.load())
        except ConfigError as error:
            exit_with(tuple(map(str, error.problems)))


def exit_with(problems: Sequence[str]) -> NoReturn:
    """End the program with status 2, for a configuration that cannot be used, and say why on standard error."""
    for problem in problems[:PROBLEMS_SHOWN]:
        click.echo(problem, err=True)
    click.echo(f"scope-proxy: {len(problems)} error(s) in the configuration", err=True)
    sys.exit(EXIT_CONFIG)


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
    return Source(config or Path(DEFAULT_CONFIG), is_registries=False)
