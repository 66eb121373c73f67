"""The command tree."""

import io
import sys

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
    _write_utf8()


def _write_utf8() -> None:
    """Encode output as UTF-8 whatever the locale: what is saved of it is UTF-8, and no character ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the caller closed it
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
