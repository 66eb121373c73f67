"""The options of `cache prefetch` for running proxies: where they are, and what they require of clients."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from proxy.cli.options import Command
from proxy.config.address import Origin
from proxy.config.base import exact_origin
from proxy.config.credentials import SecretError, SecretReader
from proxy.config.model import Credential
from proxy.prefetch.instances import WantedListeners
from proxy.prefetch.listener import BasicLogin
from proxy.transport.verification import client_context


@dataclass(frozen=True, slots=True)
class RunningProxies:
    """Which proxies images are pulled through, and how."""

    wanted: WantedListeners
    wait: float
    """Seconds to wait until all of them respond."""
    tls: ssl.SSLContext = field(repr=False)
    login: BasicLogin | None = None


_FILE = click.Path(dir_okay=False)
_OPTIONS = (
    click.option("--through", metavar="URL", help="Have the running proxy with this listener download the images."),
    click.option(
        "--instances", metavar="HOST", help="With --through: each address of this host is a proxy of its own."
    ),
    click.option(
        "--count", type=click.IntRange(1, 256), default=1, metavar="N", help="With --instances: how many to wait for."
    ),
    click.option(
        "--wait",
        type=click.FloatRange(0, 86400),
        default=0.0,
        metavar="SECONDS",
        help="Seconds to wait until they respond.",
    ),
    click.option(
        "--username", envvar="SCOPE_PROXY_USERNAME", metavar="NAME", help="User name that the listener requires."
    ),
    click.option("--password-file", type=_FILE, help="File with the password that the listener requires."),
    click.option("--ca-file", type=_FILE, help="CA file for an https listener, in PEM; default: those of the system."),
    click.option("--cert-file", type=_FILE, help="Client certificate that the listener requires, in PEM."),
    click.option("--key-file", type=_FILE, help="Key of the client certificate, in PEM."),
)


def listener_options(command: Command) -> Command:
    """The options; the command gets each by its name, for `proxies_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def proxies_of(options: Mapping[str, Any]) -> RunningProxies | None:
    """The proxies that the options name; None without `--through`. Raises UsageError."""
    if options["through"] is None:
        context = click.get_current_context()
        typed = click.core.ParameterSource.COMMANDLINE
        given = [name for name in options if context.get_parameter_source(name) is typed]
        if given:
            raise click.UsageError(f"--{given[0].replace('_', '-')} is for --through URL")
        return None
    try:
        origin = Origin.parse(exact_origin(options["through"]))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--through") from None
    wanted = WantedListeners(origin, options["instances"], options["count"])
    return RunningProxies(wanted, options["wait"], _tls(options), _login(options))


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    cert, key = options["cert_file"], options["key_file"]
    if (cert is None) != (key is None):
        raise click.UsageError("give --cert-file and --key-file together")
    try:
        context = client_context(options["ca_file"])
    except OSError as error:
        raise click.UsageError(f"cannot use --ca-file {options['ca_file']}: {error.strerror or error}") from None
    try:
        if cert is not None:
            context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"cannot use --cert-file {cert} with --key-file {key}: {error}") from None
    return context


def _login(options: Mapping[str, Any]) -> BasicLogin | None:
    username, file = options["username"], options["password_file"]
    if not username and file is None:
        return None
    if not username or file is None:
        raise click.UsageError("give --username and --password-file together")
    try:
        secret = SecretReader({}).read(Credential.model_validate({"username": username, "passwordFile": file}))
    except SecretError as error:
        raise click.UsageError(f"cannot read the password: {error}") from None
    except ValueError:
        raise click.UsageError("--username is not a user name") from None
    return None if secret is None else BasicLogin(username, secret.value)
