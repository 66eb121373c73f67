"""One examination: its subject, and requests to it that are bounded in time and size."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import aiohttp
from yarl import URL

from proxy.config.address import Origin
from proxy.config.model import Config, Host
from proxy.doctor.handshakes import Handshakes
from proxy.doctor.journal import Journal
from proxy.doctor.report import Check
from proxy.doctor.subject import Subject
from proxy.doctor.trouble import TROUBLE, explain
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.redirect import follow
from proxy.transport.session import Outgoing, Sessions

REQUEST_SECONDS = 15.0
"""For one request, its body included."""
BODY_LIMIT = 64 * 1024
"""Bytes of a body that are read, where nothing else is said."""

_OPERATION = "doctor"


class Stopped(Exception):
    """There is no sense in going on; the message says why, for the checks that are not come to."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, read as far as it may be."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    challenges: tuple[str, ...]
    """The lines of WWW-Authenticate."""
    body: bytes = field(repr=False)
    url: URL = field(repr=False)
    """Where it came from at last."""
    elsewhere: bool
    """It came from another origin."""
    at: float
    """When it was made, in seconds since the epoch by our clock; the middle between request and answer."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What every check works with."""

    subject: Subject
    config: Config
    sessions: Sessions
    proxies: ForwardProxies
    handshakes: Handshakes
    journal: Journal

    @property
    def host(self) -> Host:
        """The settings of the endpoint's host."""
        return self.config.host(self.subject.origin)

    @property
    def key(self) -> str:
        """The host's entry as it is written in the configuration."""
        return f'hosts."{self.subject.host}"'

    async def ask(
        self, method: str, url: URL, headers: Mapping[str, str] | None = None, *, limit: int = BODY_LIMIT
    ) -> Response:
        """Ask the endpoint and follow its redirects; of the body one byte more than `limit` is read at the most.

        Raises what is in TROUBLE.
        """
        outgoing = Outgoing(method, url, self.subject.origin, headers or {}, (self.subject.upstream, _OPERATION))
        begun = time.time()
        async with asyncio.timeout(REQUEST_SECONDS):
            followed = await follow(self.sessions, outgoing)
            at = (begun + time.time()) / 2
            body = await read(followed.response, limit)
        response = followed.response
        # What another server wants is nothing to us: no credential of ours is for it.
        challenges = () if followed.elsewhere else tuple(response.headers.getall("WWW-Authenticate", []))
        return Response(response.status, response.headers, challenges, body, response.url, followed.elsewhere, at)

    async def ask_for(self, check: Check, method: str, url: URL, headers: Mapping[str, str], limit: int) -> Response:
        """The same for one check: trouble is its failure; raises Stopped."""
        try:
            return await self.ask(method, url, headers, limit=limit)
        except TROUBLE as error:
            self.stop(check, error)

    def stop(self, check: Check, error: BaseException, origin: Origin | None = None) -> NoReturn:
        """Tell of the trouble of a check, and go no further; raises Stopped."""
        trouble = explain(error, origin or self.subject.origin)
        self.journal.failed(check, trouble.seen, trouble.advice)
        raise Stopped(f"not reached: {check.value} failed") from error


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, up to one byte more than the limit; the connection is given back, however the reading ends."""
    body = bytearray()
    try:
        while len(body) <= limit and (chunk := await response.content.readany()):
            body += chunk
    finally:
        if response.content.at_eof():
            response.release()
        else:
            response.close()
    return bytes(body[: limit + 1])
