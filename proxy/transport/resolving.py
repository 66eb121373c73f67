"""Looking up names, in threads that do nothing else: no lookup waits for a thread, so its time is the name server's."""

import asyncio
import functools
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

LOOKUPS_LIMIT = 64
"""Names that are looked up at one time; further ones fail at once."""

_Key = tuple[str, int, socket.AddressFamily]


class TooManyLookups(OSError):
    """The name was not looked up: that is a limit of this program."""


class NameLookups(AbstractResolver):
    """The system's resolver; several that want the same name share its lookup."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS_LIMIT, "names")
        self._running: dict[_Key, asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host; raises OSError where it has none, and TooManyLookups."""
        key = (host, port, family)
        lookup = self._running.get(key)
        if lookup is None:
            if len(self._running) >= LOOKUPS_LIMIT:
                raise TooManyLookups("too many names are looked up")
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, _addresses, *key)
            self._running[key] = lookup
            lookup.add_done_callback(functools.partial(self._ended, key))
        return await asyncio.shield(lookup)

    async def close(self) -> None:
        """Let the threads end; those that hang are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, key: _Key, lookup: asyncio.Future[list[ResolveResult]]) -> None:
        del self._running[key]
        if not lookup.cancelled():
            lookup.exception()  # seen: nobody may be waiting


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    """What the system knows; blocks."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        ResolveResult(hostname=host, host=str(address[0]), port=int(address[1]), family=kind, proto=proto, flags=flags)
        for kind, _, proto, _, address in socket.getaddrinfo(
            host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
    ]
