"""A blob on its way to a client."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.oci.byterange import Span
from proxy.oci.reference import Digest
from proxy.pull.progress import ContentSpan
from proxy.upstream.body import BodyBroken

Piece = bytes | ContentSpan
"""What is sent: bytes in memory, or bytes where they lie."""


class CacheResult(StrEnum):
    """The five ways in which a pull is served."""

    HIT = "hit"
    JOIN = "join"
    MISS = "miss"
    STALE = "stale"
    BYPASS = "bypass"


class DigestMismatch(BodyBroken):
    """The bytes of a blob do not have its digest; its tail has not been sent."""


def _nothing() -> None:
    """There is nothing to let go of."""


def _never() -> bool:
    """No upstream's place is held for the client."""
    return False


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob, or a part of it, ready to be sent; `size` is that of the whole, None where nobody knows it."""

    digest: Digest
    size: int | None
    span: Span | None
    """The part that is sent; None for all."""
    chunks: Callable[[], AsyncGenerator[Piece, None]]
    way: CacheResult = CacheResult.BYPASS
    content: bytes | None = field(default=None, repr=False)
    """All that is sent, where it is small and in memory: then `chunks` need not be asked."""
    close: Callable[[], None] = _nothing
    reclaim: Callable[[], bool] = _never
    """Whether the upstream's place that is held while the client reads must be released now, as others wait for it."""
    distrust: Callable[[], None] = _nothing
    """Tells that the stored bytes could not be sent: they are checked before they are served again."""

    @property
    def length(self) -> int | None:
        """How many bytes are sent."""
        return self.span.length if self.span else self.size
