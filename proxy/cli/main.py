"""The command tree."""

import click

from proxy.cli.late import LateGroup
from proxy.version import VERSION

COMMANDS = ("serve", "check", "explain", "doctor", "cache", "demo", "healthcheck", "convert", "node")
"""Each of them has a module of its name."""


@click.group(
    cls=LateGroup,
    modules={name: f"proxy.cli.{name}" for name in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(VERSION, prog_name="scope-proxy")
def main() -> None:
    """A pull-through registry proxy that asks strict registries for exactly one scope."""
