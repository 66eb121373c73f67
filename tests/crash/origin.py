"""The origin: a strict registry that makes blobs on demand and counts how often they are requested."""

import asyncio
import hashlib
import itertools
from dataclasses import dataclass

from aiohttp import web

from proxy.testbed.answer import BodyContent
from proxy.testbed.images import Image
from proxy.testbed.record import Call
from proxy.testbed.server import Wire
from tests.fakes.blobs import Generated
from tests.fakes.interrupts import Stall
from tests.fakes.matching import on
from tests.fakes.proxy import UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry


@dataclass(frozen=True, slots=True)
class Thing:
    """What a client asks for, and what it must get."""

    target: str
    digest: str
    content: BodyContent

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.content.size

    def digest_from(self, first: int) -> str:
        """The sha256 of the bytes from `first` on, in hexadecimal."""
        if first == 0:
            return self.digest.partition(":")[2]
        state = hashlib.sha256()
        for piece in self.content.pieces(first, self.size):
            state.update(piece)
        return state.hexdigest()


class Origin(ScriptedRegistry):
    """A strict registry with one repository."""

    def __init__(self) -> None:
        super().__init__()
        self._seeds = itertools.count(1)
        self.library.repository(UPSTREAM)

    async def exchange(self, wire: Wire, call: Call) -> web.StreamResponse:
        """Answer one request; a client that is killed meanwhile is no error here."""
        try:
            return await super().exchange(wire, call)
        except ConnectionError:
            return wire.hang_up(reset=True)

    def blob(self, size: int) -> Thing:
        """Hold a new blob."""
        content = Generated(size, next(self._seeds))
        digest = self.add_blob(UPSTREAM, content).digest
        return Thing(blob(digest), digest, content)

    def stall(self, thing: Thing, at: int, until: asyncio.Event) -> asyncio.Event:
        """Send but `at` bytes of something, the first time, until an event; another one is set once it stalls."""
        reached = asyncio.Event()
        allowed = on("GET", "blob", reference=thing.digest).where(lambda call: bool(call.header("Authorization")))
        self.script(allowed.nth(1), Stall(at, until, reached))
        return reached

    def manifest(self, image: Image) -> Thing:
        """Hold an image, whose manifest is requested by digest."""
        self.add(image)
        held = self.library.repository(UPSTREAM).manifests[image.digest]
        return Thing(manifest(image.digest), image.digest, held.content)

    def gets(self, thing: Thing) -> int:
        """How often something was sent; parts of it count too, refusals for want of a token do not."""
        return sum(entry.status in {200, 206} for entry in self.record.of(method="GET", reference=thing.digest))
