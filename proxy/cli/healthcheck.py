"""`scope-proxy healthcheck`: check that a running proxy serves, for containers and service managers."""

import http.client
from pathlib import Path

import click

from proxy.cli.main import FileCommand
from proxy.cli.options import EXIT_CONFIG, configuration_options, source_of
from proxy.config.base import exact_origin, listen_address
from proxy.config.checks.listeners import split_address
from proxy.config.errors import ConfigError
from proxy.config.model import Admin
from proxy.nodes.probe import ProbeResult, probe

WITHIN = 2.0
"""Timeout in seconds, for the connection and for the response."""

EXIT_UNHEALTHY = 1
"""Exit status when the proxy does not respond, or reports that it does not serve."""

_ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_MAX_ANSWER = 1024
_OK = 200


@click.command(cls=FileCommand)
@configuration_options
@click.option(
    "--admin", metavar="HOST:PORT", envvar="SCOPE_PROXY_ADMIN", help="Address to check, in place of the configured one."
)
@click.option("--live", is_flag=True, help="Check that it is alive (/healthz), not that it serves (/readyz).")
@click.option("--proxy", metavar="URL", help="Check the listener for nodes at this URL (/v2/), not the admin address.")
def healthcheck(
    config: Path | None, registries: Path | None, *, admin: str | None, live: bool, proxy: str | None
) -> None:
    """Check that the proxy of this configuration serves; status 1 if it does not."""
    if proxy is not None:
        _check_listener(proxy)
        return
    host, port = split_address(_address(config, registries, admin))
    path = "/healthz" if live else "/readyz"
    problem = _problem(_ANY_ADDRESS.get(host, host), port, path)
    if problem is not None:
        click.echo(f"scope-proxy: {path} of {host or '*'}:{port}: {problem}", err=True)
        raise click.exceptions.Exit(EXIT_UNHEALTHY)


def _check_listener(url: str) -> None:
    """Send a node's request; exits with status 1 if no scope-proxy responds."""
    context = click.get_current_context()
    sources = {name: context.get_parameter_source(name) for name in ("admin", "live")}
    given = [f"--{name}" for name, source in sources.items() if source is click.core.ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"--proxy checks a listener for nodes: leave {' and '.join(given)} out")
    try:
        origin = exact_origin(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--proxy") from None
    answer = probe(origin, verify=False)  # as the kubelet's probes: whether it serves, not who it is
    if answer is not ProbeResult.OURS:
        click.echo(f"scope-proxy: {origin}/v2/: {answer}", err=True)
        raise click.exceptions.Exit(EXIT_UNHEALTHY)


def _address(config: Path | None, registries: Path | None, admin: str | None) -> str:
    """Where metrics and health are served."""
    if admin is not None:
        try:
            return listen_address(admin)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    source = source_of(config, registries)
    try:
        configured = source.load().config.admin
    except ConfigError:
        if not source.path.exists():
            source.load_or_exit()
        # A running proxy keeps the configuration of before: a broken file does not fail the check.
        configured = Admin()
        click.echo(f"scope-proxy: cannot read the configuration; checking {configured.address}", err=True)
    if configured is None:
        click.echo(
            "scope-proxy: admin is null in the configuration: there is no address to check; use --admin or --proxy",
            err=True,
        )
        raise click.exceptions.Exit(EXIT_CONFIG)
    return configured.address


def _problem(host: str, port: int, path: str) -> str | None:
    """The problem, or None."""
    connection = http.client.HTTPConnection(host, port, timeout=WITHIN)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status == _OK:
            return None
        said = answer.read(_MAX_ANSWER).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"no response: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    return f"{answer.status} {said}"
