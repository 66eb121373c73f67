"""`scope-proxy serve`: run the proxy."""

import asyncio
import logging
import os
import shutil
import sys
from pathlib import Path

import click
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from proxy.cli.options import configuration_options, source_of
from proxy.config.loaded import Loaded
from proxy.config.override import with_addresses
from proxy.log import set_up_logging
from proxy.metrics import FOLDER_VARIABLE, shared_folder
from proxy.runtime.run import serve as run
from proxy.runtime.sockets import StartError
from proxy.runtime.workers import serve_with_workers

EXIT_START = 1
"""Exit status when the configuration is right and the program cannot start."""

_logger = logging.getLogger("proxy")


@click.command()
@configuration_options
@click.option("--listen", metavar="HOST:PORT", help="Listen for nodes here, whatever the configuration says.")
@click.option("--admin", metavar="HOST:PORT", help="Serve metrics and health here, whatever the configuration says.")
def serve(config: Path | None, registries: Path | None, listen: str | None, admin: str | None) -> None:
    """Serve nodes until SIGTERM."""

    def addressed(loaded: Loaded) -> Loaded:
        try:
            return with_addresses(loaded, listen, admin)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    loaded = source_of(config, registries).load_or_exit(addressed)
    set_up_logging(loaded.config.log.level, loaded.config.log.format)
    for note in loaded.notes:
        _logger.log(logging.WARNING if note.severity == "warning" else logging.INFO, "%s", note)
    if HttpRequestParser is HttpRequestParserPy:
        _logger.warning("aiohttp runs without its C parser, slow and lenient: install it from a wheel")
    try:
        if loaded.config.workers > 1:
            _serve_with_workers(loaded)
        else:
            asyncio.run(run(loaded))
    except StartError as error:
        click.echo(f"scope-proxy: {error}", err=True)
        sys.exit(EXIT_START)


def _serve_with_workers(loaded: Loaded) -> None:
    """Start anew with a folder for the workers' counts: the metrics library looks for it only when it is imported."""
    if FOLDER_VARIABLE in os.environ:
        try:
            serve_with_workers(loaded)
        finally:
            shutil.rmtree(os.environ[FOLDER_VARIABLE], ignore_errors=True)
        return
    os.environ[FOLDER_VARIABLE] = shared_folder()
    os.execv(sys.executable, [sys.executable, "-m", "proxy", *sys.argv[1:]])  # noqa: S606 - ourselves, no shell
