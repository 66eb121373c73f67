"""A generation: one loaded configuration with the parts built from it, and the number of requests that use it."""

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Generic, Self, TypeVar

from proxy.config.files import FileState, state_of
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.runtime.assemble import Engine, engine, with_routes
from proxy.runtime.client_files import ClientFiles
from proxy.runtime.clients import build_clients, clients_path, deciding_settings
from proxy.runtime.tuning import TUNING, Tuning
from proxy.server.app import ListenerApp
from proxy.server.handlers import Handler
from proxy.store.opened import OpenedStore, opened_store

Stamps = tuple[FileState | None, ...]
"""The states of some files, to detect changes; None for a file that does not exist."""


def stamps(paths: Iterable[str | os.PathLike[str]]) -> Stamps:
    """The states of files; follows symbolic links, which Kubernetes swaps to update a volume. Blocks."""
    return tuple(state_of(path) for path in paths)


def tls_stamps(config: Config) -> Stamps:
    """The states of the TLS files for upstreams; blocks."""
    return stamps(tls_files(config))


def tls_files(config: Config) -> tuple[str, ...]:
    """The certificate and key files under `hosts`."""
    sections = [host.tls for host in config.hosts.values()]
    files = [file for tls in sections for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None]
    return tuple(dict.fromkeys(files))


Value = TypeVar("Value")


class SharedPart(Generic[Value]):
    """An open resource, closed when its last holder releases it."""

    def __init__(self, key: object, value: Value, stack: AsyncExitStack) -> None:
        self.key = key
        self.value = value
        self._stack = stack
        self._holders = 1

    @classmethod
    async def open(cls, key: object, context: AbstractAsyncContextManager[Value]) -> Self:
        """Enter the context; the caller is the first holder. Raises what the context raises."""
        stack = AsyncExitStack()
        return cls(key, await stack.enter_async_context(context), stack)

    def hold(self) -> Self:
        """Add a holder."""
        self._holders += 1
        return self

    @property
    def is_held_once(self) -> bool:
        """Whether the next release closes it."""
        return self._holders == 1

    async def release(self) -> None:
        """Remove a holder; the last one closes the resource."""
        self._holders -= 1
        if not self._holders:
            await self._stack.aclose()


async def part_for(
    key: object, current: SharedPart[Value] | None, context: Callable[[], AbstractAsyncContextManager[Value]]
) -> SharedPart[Value]:
    """The current part, held once more, if its key is the same; else a new one."""
    if current is not None and current.key == key:
        return current.hold()
    return await SharedPart.open(key, context())


class Generation:
    """A configuration with the parts built from it; closed when its last request has ended."""

    def __init__(
        self,
        loaded: Loaded,
        apps: tuple[ListenerApp, ...],
        engine_part: SharedPart[Engine],
        store_part: SharedPart[OpenedStore] | None,
        *,
        certificates: Stamps,
        client_files: ClientFiles,
        tuning: Tuning,
    ) -> None:
        self.loaded = loaded
        self.apps = apps
        """The application of each open listener, in their order."""
        self.engine_part = engine_part
        self.store_part = store_part
        self.certificates = certificates
        """The states of the TLS files for upstreams before they were loaded."""
        self.client_files = client_files
        self.tuning = tuning
        self._requests = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def begin(self) -> None:
        """Count a request, which calls `end` when it has ended."""
        self._requests += 1
        self._unused.clear()

    def end(self) -> None:
        """Stop counting a request."""
        self._requests -= 1
        if not self._requests:
            self._unused.set()

    async def retire(self) -> None:
        """Close it once it is unused: after its requests, and after the downloads if no other generation has them."""
        try:
            await self._unused.wait()
            if self.engine_part.is_held_once:
                await self.engine_part.value.background.drained()
        finally:
            await self.close()

    async def close(self) -> None:
        """Close it now; parts that another generation holds stay open."""
        await self.engine_part.release()
        if self.store_part is not None:
            await self.store_part.release()


async def build_generation(
    loaded: Loaded, bound: Config, before: Generation | None = None, tuning: Tuning = TUNING
) -> Generation:
    """Build a generation; takes over the parts of `before` that the configuration does not change.

    `bound` is the configuration whose listeners are open; `loaded` must have all of them.
    Raises ValueError for unusable files.
    """
    config = loaded.config
    tuning = tuning if before is None else before.tuning
    store_part = await _store_part(config, before)
    try:
        certificates = await asyncio.to_thread(tls_stamps, config)
        store = store_part.value if store_part is not None else None
        current = before.engine_part if before is not None else None
        key = _engine_key(config, certificates)
        engine_part = await part_for(key, current, lambda: engine(config, store, tuning=tuning))
        files = ClientFiles(before.client_files if before is not None else None, times=tuning.look_times)
        try:
            apps = await asyncio.to_thread(_listener_apps, loaded, bound, engine_part.value, files)
        except BaseException:
            await engine_part.release()
            raise
    except BaseException:
        if store_part is not None:
            await store_part.release()
        raise
    return Generation(
        loaded, apps, engine_part, store_part, certificates=certificates, client_files=files, tuning=tuning
    )


def _engine_key(config: Config, certificates: Stamps) -> object:
    """The settings that an engine depends on; registries, listeners and access rules are not among them."""
    return config.hosts, config.docker_config_files, config.cache, config.timeouts, certificates


async def _store_part(config: Config, before: Generation | None) -> SharedPart[OpenedStore] | None:
    cache = config.cache
    if cache is None:
        return None
    current = before.store_part if before is not None else None
    return await part_for(cache, current, lambda: opened_store(cache))


def _listener_apps(loaded: Loaded, bound: Config, built: Engine, files: ClientFiles) -> tuple[ListenerApp, ...]:
    """The application of each open listener; reads files, so it blocks. Raises ValueError."""
    pulls = with_routes(built, loaded)
    configured = {listener.address: listener for listener in loaded.config.listeners}
    apps = []
    for listener in bound.listeners:
        wanted = configured[listener.address]  # a configuration without it was refused (`refuse_closed`)
        path = clients_path(loaded.config.listeners.index(wanted))
        known = build_clients(wanted.clients, pulls.routes, path, files)
        apps.append(ListenerApp(Handler(pulls, known.check), known.extra, deciding_settings(loaded, wanted, path)))
    return tuple(apps)
