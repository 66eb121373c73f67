"""Preflight checks: reasons why this machine cannot use a valid configuration.

With such a reason `serve` refuses to start, a reload keeps the previous configuration, and `check` reports it.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from proxy.config.errors import Problem, SettingError
from proxy.config.load import Loaded
from proxy.config.model import Config, Tls
from proxy.observe.tracing import TracingError, check_tracing
from proxy.routing.table import RouteTable
from proxy.runtime.clients import build_clients, clients_path
from proxy.server.listener.tls import build_context, tls_path
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.session import host_contexts
from proxy.version import VERSION


def preflight(loaded: Loaded, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """All reasons not to start: `file:line:column: ...` for a setting, a sentence for an environment variable.

    Reads the files that the configuration names, so it blocks. Sends no request and leaves no file.
    """
    problems = []
    for check in _checks(loaded):
        try:
            check()
        except SettingError as error:
            problems.append(Problem(loaded.positions.value(*error.path), str(error)))
    return (*map(str, sorted(problems)), *_environment(os.environ if environment is None else environment))


def _checks(loaded: Loaded) -> Iterator[Callable[[], object]]:
    """The checks, each of which may raise SettingError."""
    config, routes = loaded.config, RouteTable(loaded.config, loaded.positions)
    for name, host in config.hosts.items():
        yield partial(host_contexts, name, host.tls, {Tls()})
    for number, listener in enumerate(config.listeners):
        if listener.tls is not None:
            yield partial(build_context, listener.tls, listener.clients.auth, tls_path(number))
        yield partial(build_clients, listener.clients, routes, clients_path(number))
    yield partial(_check_tracing, config)
    yield partial(_check_workers, config)


def _check_tracing(config: Config) -> None:
    tracing = config.tracing
    if tracing is None:
        return
    try:
        check_tracing(tracing.endpoint, tracing.sample_ratio, VERSION)
    except TracingError as error:
        raise SettingError(("tracing",), str(error)) from None


def _check_workers(config: Config) -> None:
    """Check for a temporary directory: workers share their metrics through files."""
    if config.workers == 1:
        return
    try:
        tempfile.gettempdir()
    except OSError:
        raise SettingError(
            ("workers",), "more than one worker requires a writable temporary directory: set TMPDIR"
        ) from None


def _environment(environment: Mapping[str, str]) -> Iterator[str]:
    try:
        ForwardProxies.from_environment(environment)
    except ValueError as error:
        yield str(error)
