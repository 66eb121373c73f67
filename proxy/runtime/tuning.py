"""Limits and clocks that are no settings: one place passes them to the parts that use them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.auth.inward.watched_file import LOOK_TIMES, LookTimes
from proxy.pull.blobs.downloads import RECHECK_STEP
from proxy.pull.blobs.service import FAR_AHEAD
from proxy.pull.known_manifests import KNOWN_LIMIT
from proxy.server.listener.accept import LOCAL_BUFFER, PAUSE
from proxy.server.listener.connection import LINGER
from proxy.server.listener.held_bodies import BODIES_LIMIT
from proxy.server.listener.tls import RELOAD_SECONDS
from proxy.transport.retry import pause_before
from proxy.transport.session import SESSION_LIMITS, SessionLimits
from proxy.upstream.authorize import FRESH_GRANT_SECONDS


@dataclass(frozen=True, slots=True)
class ServerTuning:
    """Those of the server; the constants say what they mean."""

    accept_pause: float = PAUSE
    held_bodies: int = BODIES_LIMIT
    linger: float = LINGER
    local_buffer: int = LOCAL_BUFFER
    tls_reload: float = RELOAD_SECONDS


SERVER_TUNING = ServerTuning()


@dataclass(frozen=True, slots=True)
class Tuning:
    """The values in use; only tests use others than these."""

    clock: Callable[[], float] = time.monotonic
    """The lifetime of tokens and the health of endpoints follow this clock."""
    pause: Callable[[int], float] = pause_before
    """Seconds before a further round of attempts, by its number."""
    fresh_grant_seconds: float = FRESH_GRANT_SECONDS
    session_limits: SessionLimits = SESSION_LIMITS
    look_times: LookTimes = LOOK_TIMES
    """For the files that authenticate clients."""
    known_manifests: int = KNOWN_LIMIT
    far_ahead: int = FAR_AHEAD
    recheck_step: int = RECHECK_STEP
    server: ServerTuning = SERVER_TUNING


TUNING = Tuning()
