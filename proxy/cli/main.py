"""The command tree."""

import click

from proxy.cli.cache import cache
from proxy.cli.check import check
from proxy.cli.convert import convert
from proxy.cli.demo import demo
from proxy.cli.doctor import doctor
from proxy.cli.explain import explain
from proxy.cli.healthcheck import healthcheck
from proxy.cli.node import node
from proxy.cli.prefetch import prefetch
from proxy.cli.serve import serve
from proxy.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, prog_name="scope-proxy")
def main() -> None:
    """A pull-through registry proxy that asks strict registries for exactly one scope."""


for command in (serve, check, explain, doctor, cache, demo, healthcheck, convert, node):
    main.add_command(command)
cache.add_command(prefetch)
