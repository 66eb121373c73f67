"""The command tree. Each command is imported only when it runs."""

import difflib
import importlib
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from proxy.version import VERSION


class FileCommand(click.Command):
    """A command that gets its configuration by an option: for a file as an argument, the error names the option."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; an argument too many is an error."""
        extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            ctx.fail(f"Unexpected argument {extra[0]!r}{self._advice(extra[0])}")
        return extra

    def _advice(self, argument: str) -> str:
        if not any(parameter.name == "config" for parameter in self.params):
            return ""
        file = Path(argument)
        if file.name == "registries.yaml":
            return f": write --registries {argument}"
        return f": write --config {argument}" if file.suffix in {".yaml", ".yml"} or file.is_file() else ""


class LateGroup(click.Group):
    """A group that imports a command's module when it runs.

    The command is an attribute of its own name, or of the name after a colon.
    """

    command_class = FileCommand

    def __init__(self, *arguments: Any, modules: Mapping[str, str] | None = None, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._modules = modules or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted({*super().list_commands(ctx), *self._modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None where there is none."""
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._modules[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute or cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; a mistyped name is an error that suggests the nearest."""
        name = args[0]
        if self.get_command(ctx, name) is None and name[:1].isalnum() and not ctx.resilient_parsing:
            names = self.list_commands(ctx)
            nearest = difflib.get_close_matches(name.lower(), names, n=1)
            advice = f"Did you mean {nearest[0]!r}?" if nearest else f"Commands: {', '.join(names)}."
            ctx.fail(f"No such command {name!r}. {advice}")
        return super().resolve_command(ctx, args)


COMMANDS = ("serve", "check", "explain", "doctor", "cache", "demo", "healthcheck", "convert", "node")
"""Each of them has a module of its name."""


@click.group(
    cls=LateGroup,
    modules={name: f"proxy.cli.{name}" for name in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(VERSION, prog_name="scope-proxy")
def main() -> None:
    """A pull-through registry proxy that requests exactly one scope from strict registries."""
    _write_utf8()


def _write_utf8() -> None:
    """Encode output as UTF-8 whatever the locale: what is saved of it is UTF-8, and no character ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the caller closed it
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
