"""Another way to a registry: on an IPv6 address, or over TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator

from tests.fakes.app_thread import entered

CHUNK = 64 * 1024


@contextlib.contextmanager
def relay(target: str, host: str, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Pass connections to `host` on to the `host:port` of `target`; gives the port."""
    name, _, port = target.rpartition(":")
    ports: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(name, int(port))
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, inner_writer))
            group.create_task(_copy(inner_reader, writer))

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        server = await asyncio.start_server(serve, host, 0, ssl=tls)
        ports.append(server.sockets[0].getsockname()[1])
        try:
            yield
        finally:
            server.close()

    with entered(serving()):
        yield ports[0]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
