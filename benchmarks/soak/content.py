"""What clients of the soak request, and the bytes that they must get."""

import hashlib
from dataclasses import dataclass

from proxy.testbed.answer import BodyContent

SMALL = 300_000
"""Bytes: blobs below it are small ones here."""


@dataclass(frozen=True, slots=True)
class Item:
    """One manifest or blob."""

    target: str
    digest: str
    content: BodyContent

    def sha256(self, start: int, stop: int) -> str:
        """The digest of a part of it."""
        state = hashlib.sha256()
        for piece in self.content.pieces(start, stop):
            state.update(piece)
        return f"sha256:{state.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Pullable:
    """An image: the target of its tag, its manifest, and its blobs, the large layer last."""

    tag: str
    manifest: Item
    blobs: tuple[Item, ...]

    @property
    def large(self) -> Item:
        """The large layer."""
        return self.blobs[-1]
