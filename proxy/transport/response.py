"""A response whose body is still to come: read up to a limit, and its connection given back."""

import aiohttp

from proxy.transport.clock import at_upstream

ERROR_BODY_LIMIT = 64 * 1024
"""Bytes of an error's body that are read."""


class HttpResponse:
    """A response with its body still to be read; whoever has it must close it."""

    def __init__(self, response: aiohttp.ClientResponse, *, elsewhere: bool = False) -> None:
        self._response = response
        self.status = response.status
        self.method = response.method
        self.headers = response.headers
        self.url = response.url
        self.elsewhere = elsewhere
        """Whether it came from another origin than the one that the request was for."""

    async def read_chunk(self) -> bytes:
        """The bytes that have come; empty at the end."""
        return await self._response.content.readany()

    async def read_at_most(self, limit: int) -> bytes:
        """The beginning of the body: all of it where it has at most `limit` bytes, else some more than that."""
        body = bytearray()
        while len(body) <= limit and (chunk := await self.read_chunk()):
            body += chunk
        return bytes(body)

    async def read_and_close(self, limit: int) -> bytes:
        """The body up to one byte more than the limit; the response is closed, however the reading ends."""
        try:
            body = await self.read_at_most(limit)
        finally:
            self.close()
        return body[: limit + 1]

    async def read_error(self) -> str:
        """The text of an error's body, at most 64 KiB; the response is closed, however the reading ends."""
        body = bytearray()
        try:
            with at_upstream():
                while len(body) < ERROR_BODY_LIMIT and (chunk := await self._response.content.readany()):
                    body += chunk
        except (aiohttp.ClientError, TimeoutError):
            pass  # what has come has to do
        finally:
            # Also when the budget is spent or the client has left: a connection not given back is lost for good.
            self.close()
        return body[:ERROR_BODY_LIMIT].decode(errors="replace")

    def close(self) -> None:
        """Give the connection back; a body that was not read to its end costs the connection."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    def abort(self) -> None:
        """Close the connection, whatever was read."""
        self._response.close()
