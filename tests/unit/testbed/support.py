"""Small helpers of these tests."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

REPOSITORY = "team/app"
SCOPE = f"repository:{REPOSITORY}:pull"
WAIT = 20.0


def bearer(document: Mapping[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {document['token']}"}


def clocked() -> tuple[list[float], Callable[[], float]]:
    """A clock that stands still, and the place to move it."""
    now = [0.0]
    return now, lambda: now[0]


async def raw_get(url: str, *headers: str, method: str = "GET") -> bytes:
    """Everything that a server sends on one connection to one request, until it closes."""
    parts = urlsplit(url)
    target = f"{parts.path}{'?' if parts.query else ''}{parts.query}"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(WAIT):
            return await reader.read(-1)
    finally:
        writer.close()
