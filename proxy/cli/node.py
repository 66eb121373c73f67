"""`scope-proxy node`: configure this node's containerd to pull through the proxy, or undo that."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from proxy.cli.main import LateGroup
from proxy.cli.options import EXIT_CONFIG, Command, configuration_options, proxy_options, source_of
from proxy.config.errors import ConfigError
from proxy.config.load import Loaded
from proxy.nodes.managed_files import read_ca
from proxy.nodes.node_config import NodeHosts, checked_instance, plan, render_node
from proxy.nodes.probe import usable, wait
from proxy.nodes.runtime import NodeError, advice, detect
from proxy.nodes.tree import State, Tree, TreeEntry

EXIT_NOT_IN_SYNC = 1
"""Exit status when the node is not configured as wanted: an unmanaged file, no proxy, an unwritable directory."""
_SECONDS = click.FloatRange(min=0.1)
_WIDTH = 12


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command line says about the node."""

    proxies: tuple[str, ...]
    tree: Tree
    image_registry: str | None

    def wanted(self, loaded: Loaded) -> tuple[NodeHosts, ...]:
        return plan(loaded.config, self.proxies, self.image_registry)


def _tree_options(command: Command) -> Command:
    command = click.option(
        "--instance",
        default="default",
        show_default=True,
        metavar="NAME",
        help="Owner of the files, such as namespace/release; files of other instances stay unchanged.",
    )(command)
    return click.option(
        "--certs-dir",
        type=click.Path(path_type=Path),
        help="The directory of hosts.toml files; default: that of the installed k3s, RKE2 or containerd.",
    )(command)


def _wanted_options(command: Command) -> Command:
    command = click.option(
        "--image-registry",
        metavar="HOST",
        help="The registry of the proxy's own image: its hosts.toml always keeps a fallback to the registry itself.",
    )(command)
    command = click.option(
        "--ca-file", type=click.Path(path_type=Path), help="CA certificate of https proxies, in PEM."
    )(command)
    return configuration_options(proxy_options(_tree_options(command)))


@click.group(cls=LateGroup)
def node() -> None:
    """Configure this node's containerd to pull through the proxy, or undo that; containerd is not restarted."""


@node.command()
@_wanted_options
@click.option(
    "--wait", "patience", type=_SECONDS, metavar="SECONDS", help="Wait until the proxy responds on this node."
)
@click.option("--watch", type=_SECONDS, metavar="SECONDS", help="Keep running, and apply again at this interval.")
@click.option("--print-registries-yaml", is_flag=True, help="Print a registries.yaml to place instead; change nothing.")
def apply(
    config: Path | None,
    registries: Path | None,
    *,
    patience: float | None,
    watch: float | None,
    print_registries_yaml: bool,
    **more: Any,
) -> None:
    """Write a hosts.toml for each registry of the configuration; unmanaged files stay unchanged.

    Status 0 if all registries are in sync, 1 if one is not, 2 if this node cannot be configured this way.
    """
    source = source_of(config, registries)
    loaded = source.load_or_exit()
    if print_registries_yaml:
        ca_file = more["ca_file"]
        names = list(loaded.config.registries)
        click.echo(render_node(names, more["proxy"], None if ca_file is None else str(ca_file)), nl=False)
        return
    keeper = _Keeper(_options(**more), _stopping() if watch is not None else threading.Event(), patience)
    status = keeper.work(loaded)
    reload = _Reloading(source.load, loaded)
    while watch is not None and not keeper.stopping.wait(watch):
        keeper.work(reload(), quiet=True)
    raise click.exceptions.Exit(0 if watch is not None else status)


@node.command()
@_tree_options
def remove(certs_dir: Path | None, instance: str) -> None:
    """Remove every managed file, and every directory that was created for one."""
    tree = _tree(certs_dir, instance, None, reads=False)
    try:
        entries = tree.remove()
    except OSError as error:
        raise _failed(error) from None
    _show(entries)
    click.echo(f"{tree.path}: {len(entries)} removed")


@node.command()
@_wanted_options
def status(config: Path | None, registries: Path | None, **more: Any) -> None:
    """Report for each registry whether its hosts.toml is in sync; status 1 if one is not."""
    options = _options(**more)
    try:
        entries = options.tree.compare(options.wanted(source_of(config, registries).load_or_exit()))
    except OSError as error:
        raise _failed(error) from None
    _show(entries)
    if not all(entry.is_right for entry in entries):
        raise click.exceptions.Exit(EXIT_NOT_IN_SYNC)


class _Reloading:
    """Reads the configuration on each call; returns the last valid one where it is invalid."""

    def __init__(self, load: Callable[[], Loaded], first: Loaded) -> None:
        self._load = load
        self._last = first
        self._complaint = ""

    def __call__(self) -> Loaded:
        try:
            self._last = self._load()
            self._complaint = ""
        except ConfigError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                click.echo(f"scope-proxy: the changed configuration is not used:\n{error}", err=True)
        return self._last


@dataclass(slots=True)
class _Keeper:
    """Keeps a tree in sync."""

    options: _Options
    stopping: threading.Event
    patience: float | None
    """Seconds to wait for the proxy's first answer; None once it has answered, or where that does not matter."""

    def work(self, loaded: Loaded, *, quiet: bool = False) -> int:
        """Apply the tree once; returns the exit status. `quiet`: print only changes."""
        if self.patience is not None and not _answered(self.options, self.patience, self.stopping):
            return EXIT_NOT_IN_SYNC
        self.patience = None
        try:
            entries = self.options.tree.apply(self.options.wanted(loaded))
        except OSError as error:
            _complain(error)
            return EXIT_NOT_IN_SYNC
        _show([entry for entry in entries if entry.change or not quiet])
        return 0 if all(entry.is_right for entry in entries) else EXIT_NOT_IN_SYNC


def _answered(options: _Options, patience: float, stopping: threading.Event) -> bool:
    """Whether the proxy responds on this node, so that the node can use it."""
    answers = wait(options.proxies, options.tree.ca, patience, stopping)
    if usable(list(answers.values())):
        return True
    for url, answer in answers.items():
        click.echo(f"scope-proxy: {url}: {answer}; nothing changed on this node", err=True)
    return False


def _options(
    *, certs_dir: Path | None, instance: str, proxy: tuple[str, ...], ca_file: Path | None, image_registry: str | None
) -> _Options:
    try:
        ca = None if ca_file is None else read_ca(ca_file)
    except ValueError as error:
        raise click.UsageError(f"--ca-file: {error}") from None
    return _Options(proxy, _tree(certs_dir, instance, ca), image_registry)


def _tree(certs_dir: Path | None, instance: str, ca: str | None, *, reads: bool = True) -> Tree:
    """The tree; `reads`: check that containerd reads it."""
    try:
        path = certs_dir or detect().tree
        note = advice(path) if reads else None
        tree = Tree(path, checked_instance(instance), ca)
    except ValueError as error:
        raise click.UsageError(f"--instance: {error}") from None
    except NodeError as error:
        click.echo(f"scope-proxy: {error}", err=True)
        raise click.exceptions.Exit(EXIT_CONFIG) from None
    except OSError as error:
        raise _failed(error) from None
    if note is not None:
        click.echo(f"warning: {note}", err=True)
    return tree


def _stopping() -> threading.Event:
    """Set by SIGTERM and SIGINT."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def _show(entries: list[TreeEntry]) -> None:
    for entry in entries:
        result = entry.change or str(entry.state)
        why = f" (was {entry.state})" if entry.change and entry.state is not State.ORPHANED else ""
        detail = f": {entry.detail}" if entry.detail else ""
        click.echo(f"{result:<{_WIDTH}}{entry.registry}{why}{detail}")


def _failed(error: OSError) -> click.exceptions.Exit:
    _complain(error)
    return click.exceptions.Exit(EXIT_NOT_IN_SYNC)


def _complain(error: OSError) -> None:
    where = f"{error.filename}: " if error.filename else ""
    click.echo(f"scope-proxy: {where}{error.strerror or error}", err=True)
