"""A registry of the soak: what nodes call it, what it holds, and content that grows while the soak runs."""

import itertools
import random
from dataclasses import dataclass, field

from aiohttp import web

from benchmarks.soak.content import SMALL, Item, Pullable
from proxy.testbed.answer import Bytes
from proxy.testbed.record import Call
from proxy.testbed.server import Wire
from proxy.testbed.tokens import Rules
from tests.fakes.blobs import Generated, image_of_layers
from tests.fakes.proxy import blob, manifest
from tests.fakes.registry import ScriptedRegistry

LEAST_LARGE = 1_200_000
"""Bytes: above 1 MiB a blob is streamed before it is verified."""
MOST_LARGE = 8_000_000
REPOSITORIES = 4
TAGS = 3
HOT = 4
"""The newest images, which most clients pull."""
_seeds = itertools.count(1)


class Registry(ScriptedRegistry):
    """A strict registry with faults."""

    async def exchange(self, wire: Wire, call: Call) -> web.StreamResponse:
        """Answer one request; that the proxy gives it up meanwhile is no error here."""
        try:
            return await super().exchange(wire, call)
        except ConnectionError:
            return wire.hang_up(reset=True)


@dataclass(slots=True)
class Site:
    """A scripted registry behind the proxy; nodes name it `name`, and its repositories `library/...`."""

    name: str
    rules: Rules
    registry: Registry
    chance: random.Random
    images: list[Pullable] = field(default_factory=list)
    tags: dict[str, set[str]] = field(default_factory=dict)
    """Every digest that a tag has had, by its target: an answer may be older than the tag's last move."""
    may_deny_until: float = 0.0
    """By the monotonic clock: until then the proxy may answer 403, as the registry refuses its credentials."""

    def grow(self) -> None:
        """Hold one more image, under a tag that moves to it; the large layer is of another size each time."""
        number = len(self.images)
        name, tag = f"app{number % REPOSITORIES}", f"{number // REPOSITORIES % TAGS}"
        sizes = (*(self.chance.randrange(1, SMALL) for _ in range(2)), self._large())
        contents = [Generated(size, next(_seeds)) for size in sizes]
        layers = [self.registry.add_blob(f"team/{name}", content) for content in contents]
        image = image_of_layers(f"team/{name}", tag, *layers)
        self.registry.add(image)
        requested, target = f"library/{name}", manifest(tag, f"library/{name}", self.name)
        self.tags.setdefault(target, set()).add(image.digest)
        blobs = [
            Item(blob(layer.digest, requested, self.name), layer.digest, made)
            for layer, made in zip(layers, contents, strict=True)
        ]
        configs = [
            Item(blob(digest, requested, self.name), digest, Bytes(data)) for digest, data in image.blobs.items()
        ]
        by_digest = Item(manifest(image.digest, requested, self.name), image.digest, Bytes(image.manifest))
        self.images.append(Pullable(target, by_digest, (*configs, *blobs)))

    def hot(self) -> Pullable:
        """One of the newest images."""
        return self.chance.choice(self.images[-HOT:])

    def any(self) -> Pullable:
        """Any image, most of which the cache has evicted."""
        return self.chance.choice(self.images)

    def _large(self) -> int:
        return self.chance.randrange(LEAST_LARGE, MOST_LARGE)
