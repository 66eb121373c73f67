"""What is asked of a repository upstream, and a good answer to it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from proxy.oci.byterange import ByteRange
from proxy.oci.request import Operation
from proxy.routing.table import Target
from proxy.transport.limits import Size

FIRST_BYTE = ByteRange(0, 0)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a repository: `suffix` follows its name in the URL."""

    operation: Operation
    suffix: str
    method: str = "GET"
    accept: str | None = None
    range: ByteRange | None = None
    query: tuple[tuple[str, str], ...] = ()
    etag: str | None = None
    """What is known already: then 304 is a good answer."""

    @property
    def size(self) -> Size:
        """How much it moves: bodies of blobs are large, but not the one byte that is asked for in place of a HEAD."""
        is_body = self.operation is Operation.BLOB and self.method == "GET"
        return Size.LARGE if is_body and self.range != FIRST_BYTE else Size.SMALL


@dataclass(frozen=True, slots=True)
class Opened:
    """A good answer with its body still to be read; whoever has it must close it."""

    response: aiohttp.ClientResponse
    target: Target
    upstream: str
    release: Callable[[], None]
    reclaim: Callable[[], bool]
    """Whether the host's place that it holds must be released now, as others wait for it."""
    good_until: float = math.inf
    """Until when what the request was authorized by is good, on the monotonic clock."""

    def close(self) -> None:
        """Give connection and place back; a body that was not read to its end costs the connection."""
        if self.response.content.at_eof():
            self.response.release()
        else:
            self.response.close()
        self.release()
