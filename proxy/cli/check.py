"""`scope-proxy check`: validate a configuration without serving it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from proxy.cli.main import FileCommand
from proxy.cli.options import EXIT_CONFIG, configuration_options, source_of
from proxy.config.cache import Cache
from proxy.config.errors import Findings
from proxy.config.load import Loaded, check_secrets, render_effective
from proxy.runtime.client_files import warn_of_lines
from proxy.runtime.preflight import preflight
from proxy.server.listener.tls import check_certificate, tls_path
from proxy.store.format import EXPOSURE_ADVICE, exposure, store_problem
from proxy.store.layout import Layout
from proxy.store.pins import PIN_ADVICE, pin_problem, pinned_content
from proxy.transport.forward_proxy import ForwardProxies

EXIT_WARNINGS = 1
"""Exit status of `--strict` when there are warnings and no errors."""


@click.command(cls=FileCommand)
@configuration_options
@click.option(
    "--effective", is_flag=True, help="Print the effective configuration, including defaults, without secrets."
)
@click.option("--strict", is_flag=True, help="Fail on warnings too, with status 1.")
def check(config: Path | None, registries: Path | None, *, effective: bool, strict: bool) -> None:
    """Validate the configuration: every error at once, with file, line and column; status 2 if there are any.

    Secrets, certificates, the cache and forward proxies are checked on this machine, as the user who runs this
    command; no request goes to a registry.
    """
    source = source_of(config, registries)
    loaded = source.load_or_exit()
    here = Findings(loaded.positions)
    problems = preflight(loaded)
    _check_expiry(loaded, here)
    warn_of_lines(loaded, here)
    _check_cache(loaded, here)
    notes = [*loaded.notes, *check_secrets(loaded), *here.sorted_notes()]
    for line in (*notes, *problems, *_remarks()):
        click.echo(str(line), err=True)
    if effective:
        click.echo(render_effective(loaded), nl=False)
    warnings = sum(note.severity == "warning" for note in notes)
    names = ", ".join(loaded.config.registries) or "none"
    verdict = "cannot be used here" if problems else "ok"
    click.echo(f"{source.path}: {verdict}, {warnings} warning(s); registries: {names}", err=effective)
    if problems:
        raise click.exceptions.Exit(EXIT_CONFIG)
    if strict and warnings:
        raise click.exceptions.Exit(EXIT_WARNINGS)


def _check_expiry(loaded: Loaded, findings: Findings) -> None:
    """Certificates of listeners that have expired or expire soon: `serve` and a reload accept both with a warning."""
    for number, listener in enumerate(loaded.config.listeners):
        if listener.tls is None:
            continue
        where = (*tls_path(number), "certFile")
        with suppress(ValueError):  # reported already
            notice = check_certificate(listener.tls, tls_path(number)).warning
            if notice is not None:
                findings.warning(where, notice)


def _check_cache(loaded: Loaded, findings: Findings) -> None:
    """Whether the cache is usable: without it `serve` starts all the same and caches nothing."""
    cache = loaded.config.cache
    if cache is None:
        return
    if (problem := store_problem(Layout(Path(cache.path)))) is not None:
        findings.warning(("cache", "path"), f"nothing would be cached: {problem}")
    if (exposed := exposure(Path(cache.path))) is not None:
        findings.warning(("cache", "path"), f"{exposed}: {EXPOSURE_ADVICE}")
    _check_pins(cache, findings)


def _check_pins(cache: Cache, findings: Findings) -> None:
    """Whether the stored images that are pinned leave room: more than `maxSize` is an error, almost all a warning."""
    with suppress(OSError):  # reported already
        pinned = pinned_content(Layout(Path(cache.path)), cache.keep)
        problem = pin_problem(pinned, cache.max_size)
        if problem is not None:
            report = findings.error if pinned.size > cache.max_size else findings.warning
            report(("cache", "keep" if cache.keep else "path"), f"{problem}. {PIN_ADVICE}")


def _remarks() -> Iterator[str]:
    """Facts about this machine that need no action."""
    with suppress(ValueError):  # reported already
        if ForwardProxies.from_environment(os.environ).by_scheme:
            yield (
                "info: requests go through a forward proxy (HTTPS_PROXY, HTTP_PROXY): it resolves names, so the "
                "addresses that registries redirect to cannot be judged here"
            )
