"""Fixed values of the servers in one place, so that tests can pass other ones."""

from dataclasses import dataclass

from proxy.server.listener.accept import LOCAL_BUFFER, PAUSE
from proxy.server.listener.connection import LINGER
from proxy.server.listener.held_bodies import BODIES_LIMIT
from proxy.server.listener.tls import RELOAD_SECONDS


@dataclass(frozen=True, slots=True)
class ServerTuning:
    """Values that no setting changes; the constants say what they mean."""

    accept_pause: float = PAUSE
    held_bodies: int = BODIES_LIMIT
    linger: float = LINGER
    local_buffer: int = LOCAL_BUFFER
    tls_reload: float = RELOAD_SECONDS


SERVER_TUNING = ServerTuning()
