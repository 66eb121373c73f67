"""Descriptors: as many as the system lets us have, one for each connection."""

import logging
import resource

RESERVED = 512
"""Descriptors for what are no connections of clients: files of the cache, connections to registries, the log."""

_logger = logging.getLogger(__name__)


def ensure_descriptors(connections: int) -> None:
    """Raise the limit of open files as far as it goes, and warn where it is too low for so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            _logger.warning("the limit of open files stays at %d: %s", soft, error)
    if soft != resource.RLIM_INFINITY and soft < connections + RESERVED:
        _logger.warning(
            "only %d files may be open, and limits.connections (%d) needs %d: at most %d connections are accepted; "
            "raise the hard limit (LimitNOFILE of systemd, ulimit -Hn), or lower limits.connections",
            soft,
            connections,
            connections + RESERVED,
            connections_within(connections),
        )


def connections_within(connections: int) -> int:
    """How many connections are accepted at most: so many, or as many as leave descriptors for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(soft - RESERVED, soft // 2))
