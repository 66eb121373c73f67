"""One configuration in force: the parts that it uses, what answers each listener by it, and who still uses it."""

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
from proxy.runtime.clients import build_clients, clients_path
from proxy.runtime.tuning import TUNING, Tuning
from proxy.server.app import ListenerApp
from proxy.server.handlers import Handler
from proxy.store.opened import OpenedStore, opened_store

Stamps = tuple[FileState | None, ...]
"""What tells one state of some files from another; None for one that is not there."""


def stamps(paths: Iterable[str | os.PathLike[str]]) -> Stamps:
    """The state of files; links are followed, as Kubernetes swaps them. Blocks."""
    return tuple(state_of(path) for path in paths)


def tls_stamps(config: Config) -> Stamps:
    """The state of the certificates that are used towards upstreams; blocks."""
    return stamps(tls_files(config))


def tls_files(config: Config) -> tuple[str, ...]:
    """The files of certificates and keys under `hosts`."""
    sections = [host.tls for host in config.hosts.values()]
    files = [file for tls in sections for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None]
    return tuple(dict.fromkeys(files))


Value = TypeVar("Value")


class SharedPart(Generic[Value]):
    """Something that was opened, and how many hold it."""

    def __init__(self, key: object, value: Value, stack: AsyncExitStack) -> None:
        self.key = key
        self.value = value
        self._stack = stack
        self._holders = 1

    @classmethod
    async def open(cls, key: object, context: AbstractAsyncContextManager[Value]) -> Self:
        """Enter the context; who opens it holds it. Raises what the context raises."""
        stack = AsyncExitStack()
        return cls(key, await stack.enter_async_context(context), stack)

    def hold(self) -> Self:
        """One more holds it."""
        self._holders += 1
        return self

    @property
    def is_held_once(self) -> bool:
        """Whether it closes with its next release."""
        return self._holders == 1

    async def release(self) -> None:
        """One fewer holds it; the last one closes it."""
        self._holders -= 1
        if not self._holders:
            await self._stack.aclose()


async def part_for(
    key: object, current: SharedPart[Value] | None, context: Callable[[], AbstractAsyncContextManager[Value]]
) -> SharedPart[Value]:
    """The current part where nothing has changed that it is made of, held once more; else a new one."""
    if current is not None and current.key == key:
        return current.hold()
    return await SharedPart.open(key, context())


class Generation:
    """A configuration with all that was built from it; closed when its last request has ended."""

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
        """What answers each open listener, in their order."""
        self.engine_part = engine_part
        self.store_part = store_part
        self.certificates = certificates
        """The state of the certificates towards upstreams before they were loaded."""
        self.client_files = client_files
        self.tuning = tuning
        self._requests = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def begin(self) -> None:
        """Keep it for a request, until that calls `end`."""
        self._requests += 1
        self._unused.clear()

    def end(self) -> None:
        """The request has ended."""
        self._requests -= 1
        if not self._requests:
            self._unused.set()

    async def retire(self) -> None:
        """Close it once nobody uses it: requests end first, then the downloads that nobody else goes on with."""
        try:
            await self._unused.wait()
            if self.engine_part.is_held_once:
                await self.engine_part.value.background.drained()
        finally:
            await self.close()

    async def close(self) -> None:
        """Close it at once; parts that another generation uses stay open."""
        await self.engine_part.release()
        if self.store_part is not None:
            await self.store_part.release()


async def build_generation(
    loaded: Loaded, bound: Config, before: Generation | None = None, tuning: Tuning = TUNING
) -> Generation:
    """Build what a configuration asks for, and take over what it does not change.

    `bound` is the configuration whose listeners are open, all of which the other one has.
    Raises ValueError for files that cannot be used.
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
    """All that an engine is made of; registries, listeners and access rules are not."""
    return config.hosts, config.docker_config_files, config.cache, config.timeouts, certificates


async def _store_part(config: Config, before: Generation | None) -> SharedPart[OpenedStore] | None:
    cache = config.cache
    if cache is None:
        return None
    current = before.store_part if before is not None else None
    return await part_for(cache, current, lambda: opened_store(cache))


def _listener_apps(loaded: Loaded, bound: Config, built: Engine, files: ClientFiles) -> tuple[ListenerApp, ...]:
    """What answers each open listener; reads files, so it blocks. Raises ValueError."""
    pulls = with_routes(built, loaded)
    configured = {listener.address: listener for listener in loaded.config.listeners}
    apps = []
    for listener in bound.listeners:
        wanted = configured[listener.address]  # a configuration without it is not put in force
        path = clients_path(loaded.config.listeners.index(wanted))
        known = build_clients(wanted.clients, pulls.routes, path, files)
        apps.append(ListenerApp(Handler(pulls, known.check), known.extra))
    return tuple(apps)
