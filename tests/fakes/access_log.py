"""The access log as an operator reads it: lines on standard error."""

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from proxy.observe.log import ACCESS, set_up_logging
from tests.fakes.canaries import assert_no_secret
from tests.fakes.client import WITHIN

POLL = 0.005


class AccessLog:
    """What was written since logging was set up."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """All lines."""
        return self._stream.getvalue()

    def lines(self) -> list[str]:
        """The lines of requests, in either format."""
        return [line for line in self.text.split("\n") if f'"{ACCESS}"' in line or " operation=" in line]

    async def lines_until(self, count: int) -> list[str]:
        """The lines of so many requests: each is written after its response."""
        async with asyncio.timeout(WITHIN):
            while len(lines := self.lines()) < count:  # noqa: ASYNC110 - a stream has no event
                await asyncio.sleep(POLL)
        assert len(lines) == count
        return lines

    async def until(self, count: int) -> list[dict[str, Any]]:
        """The fields of so many requests, if the format is JSON."""
        return [json.loads(line) for line in await self.lines_until(count)]

    async def last(self, count: int = 1) -> dict[str, Any]:
        """The fields of the last of so many requests."""
        return (await self.until(count))[-1]


@contextmanager
def logging_to(style: str = "json", **more: str) -> Iterator[AccessLog]:
    """Log as the program does, without a secret; logging is as it was after the block."""
    root, access = logging.getLogger(), logging.getLogger(ACCESS)
    before, level, access_level = root.handlers[:], root.level, access.level
    asyncio_level = logging.getLogger("asyncio").level
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        set_up_logging("info", style, **more)
    try:
        yield AccessLog(stream)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        access.setLevel(access_level)
        logging.getLogger("asyncio").setLevel(asyncio_level)
        assert_no_secret(stream.getvalue())
