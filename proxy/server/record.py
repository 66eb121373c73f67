"""What is known of one request while it is answered, and how many are being answered."""

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from proxy.oci.request import Operation, RegistryRequest
from proxy.routing.table import Route


@dataclass(slots=True)
class RequestRecord:
    """The attributes of the one log line and of the metrics of a request."""

    method: str
    path: str
    client: str
    agent: str
    operation: Operation | Literal["token"] | None = None
    asked: RegistryRequest | None = None
    """What was asked, once it is understood."""
    decision: Route | None = None
    """Where it is pulled from, once that is known."""
    has_login: bool = False
    """Whether the client has shown a credential, good or bad."""
    user: str = ""
    registry: str = ""
    repository: str = ""
    upstream: str = ""
    status: int = 0
    sent: int = 0
    cache: str = ""
    """The way in which it was served, one of five; empty where nothing of a registry was served."""
    first_byte: float = 0.0
    """When the first byte of the answer was ready to be sent, on the clock of `perf_counter`."""
    error: str = ""
    aborted: str = ""
    """Why the request was cut: client_gone, slow_client, upstream, store, digest_mismatch, internal, shutdown."""

    @property
    def route(self) -> str:
        """The operation as a label; `other` for what is none."""
        return str(self.operation) if self.operation else "other"


LOOK_SECONDS = 0.05
"""How often a stop looks whether it is quiet."""


class Activity:
    """Requests of nodes in flight, and when the last one came or ended, on the monotonic clock."""

    def __init__(self) -> None:
        self.is_ending = False
        """Whether requests that are still in flight are being cut, as the stop has waited long enough."""
        self._in_flight = 0
        self._last = time.monotonic()

    def __enter__(self) -> None:
        """Note a request, for the length of the block."""
        self._in_flight += 1
        self._last = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._in_flight -= 1
        self._last = time.monotonic()

    @property
    def reason_of_cut(self) -> str:
        """Why a request is cancelled."""
        return "shutdown" if self.is_ending else "client_gone"

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._in_flight

    async def quiet(self, seconds: float) -> None:
        """Wait until nothing is in flight, and nothing comes for so many seconds: a pull is many requests."""
        asked = time.monotonic()
        while self._in_flight or time.monotonic() - max(self._last, asked) < seconds:  # noqa: ASYNC110 - time has no event
            await asyncio.sleep(LOOK_SECONDS)
