"""`scope-proxy serve`: run the proxy."""

import asyncio
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import click
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from proxy.cli.main import FileCommand
from proxy.cli.options import Source, configuration_options, exit_with, source_of, threads_or_exit
from proxy.config.load import Addresses, Loaded, with_addresses
from proxy.observe.log import set_up_logging
from proxy.observe.metrics import DIRECTORY_VARIABLE, shared_directory
from proxy.runtime.generation import stamps
from proxy.runtime.preflight import preflight
from proxy.runtime.reload import ConfigSource
from proxy.runtime.run import serve as run
from proxy.runtime.sockets import StartError, bound_arenas, ensure_descriptors
from proxy.runtime.workers import serve_with_workers

_logger = logging.getLogger("proxy")


@click.command(cls=FileCommand)
@configuration_options
@click.option("--listen", metavar="HOST:PORT", help="Address for nodes, in place of the configured ones.")
@click.option("--admin", metavar="HOST:PORT", help="Admin address, in place of the configured one.")
@click.option(
    "--metrics", metavar="HOST:PORT", help="Additional address for metrics and health, without the status page."
)
@click.option(
    "--allow-python-parser", is_flag=True, help="Run on aiohttp's HTTP parser in Python, although it is lenient."
)
def serve(
    config: Path | None,
    registries: Path | None,
    *,
    listen: str | None,
    admin: str | None,
    metrics: str | None,
    allow_python_parser: bool,
) -> None:
    """Serve nodes until SIGTERM."""
    addresses = Addresses(listen, admin, metrics)

    def addressed(loaded: Loaded) -> Loaded:
        try:
            return with_addresses(loaded, addresses)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # it waits until there is a handler
    source = source_of(config, registries)
    seen = stamps((source.path,))
    loaded = source.load_or_exit(addressed)
    set_up_logging(loaded.config.log.level, loaded.config.log.format, loaded.config.log.access)
    for note in loaded.notes:
        _logger.log(logging.WARNING if note.severity == "warning" else logging.INFO, "%s", note)
    if problems := preflight(loaded):
        exit_with(problems)
    with threads_or_exit():
        _check_parser(allowed=allow_python_parser)
        bound_arenas()
        ensure_descriptors(loaded.config.limits.connections)
        origin = ConfigSource(lambda: _again(source, addresses), (source.path,), seen)
        if loaded.config.workers > 1:
            _serve_with_workers(loaded, origin)
        else:
            asyncio.run(run(loaded, origin=origin))


def _again(source: Source, addresses: Addresses) -> Loaded:
    """Reload the configuration; raises ConfigError and ValueError."""
    if not source.path.is_file():  # a pipe in its place would be waited for, also by the end of the program
        raise ValueError(f"{source.path} does not exist or is not a regular file")
    return with_addresses(source.load(), addresses)


def _check_parser(*, allowed: bool) -> None:
    """Refuse an HTTP parser that accepts requests which servers in front of it parse differently; raises StartError."""
    if HttpRequestParser is not HttpRequestParserPy:
        return
    what = "aiohttp runs on its HTTP parser in Python, slow and lenient"
    if not allowed:
        raise StartError(
            f"{what}: install aiohttp from a wheel (and unset AIOHTTP_NO_EXTENSIONS), or pass --allow-python-parser"
        )
    _logger.warning("%s, as --allow-python-parser allows", what)


def _serve_with_workers(loaded: Loaded, origin: ConfigSource) -> None:
    """Restart with a directory for the workers' counts: the metrics library reads the variable only at import."""
    if DIRECTORY_VARIABLE in os.environ:
        try:
            serve_with_workers(loaded, origin)
        finally:
            shutil.rmtree(os.environ[DIRECTORY_VARIABLE], ignore_errors=True)
        return
    os.environ[DIRECTORY_VARIABLE] = shared_directory()
    os.execv(sys.executable, [sys.executable, "-m", "proxy", *sys.argv[1:]])  # noqa: S606 - ourselves, no shell
