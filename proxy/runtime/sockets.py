"""System resources: listening sockets, the limit of open files, threads."""

import ctypes
import errno
import logging
import os
import resource
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from proxy.config.model import Config

RESERVED = 512
"""Descriptors kept for other uses than client connections: cache files, connections to registries, the log."""

_logger = logging.getLogger(__name__)


def ensure_descriptors(connections: int) -> None:
    """Raise the limit of open files to the hard limit, and warn if that is too low for this many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            _logger.warning("cannot raise the limit of open files, it stays at %d: %s", soft, error)
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
    """Maximum number of accepted connections: `connections`, or fewer if the limit of open files is too low."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(soft - RESERVED, soft // 2))


BACKLOG = 1024
"""Maximum number of connections that wait to be accepted."""


class StartError(Exception):
    """The program cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """One bound socket for each listener, in their order, and the admin sockets."""

    nodes: tuple[socket.socket, ...]
    admin: socket.socket | None
    metrics: socket.socket | None
    """For metrics and health without the status page."""

    @property
    def addresses(self) -> Sequence[str]:
        """The bound addresses for nodes, with the actual ports."""
        return [address_of(item) for item in self.nodes]

    def close(self) -> None:
        """Close all sockets."""
        for item in (*self.nodes, self.admin, self.metrics):
            if item is not None:
                item.close()


def bind(config: Config) -> Sockets:
    """Bind every address of a configuration; raises StartError."""
    with ExitStack() as opened:

        def optional(address: str | None) -> socket.socket | None:
            return opened.enter_context(_bind(address)) if address is not None else None

        nodes = tuple(opened.enter_context(_bind(listener.address)) for listener in config.listeners)
        admin = optional(config.admin.address if config.admin is not None else None)
        metrics = optional(config.admin.metrics_address if config.admin is not None else None)
        opened.pop_all()
    return Sockets(nodes, admin, metrics)


def address_of(bound: socket.socket) -> str:
    """`host:port` of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(("", int(port)), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StartError(f"cannot listen on {address}: {reason}") from error


CLONE3 = 435
"""Number of the system call (Linux): the same on every architecture except alpha and mips."""

ARENAS = 2
"""Memory arenas for all threads (the default of glibc is eight per processor, and each keeps freed memory)."""
M_ARENA_MAX = -8
"""Parameter of `mallopt(3)`."""

_THREAD_ERROR = "can't start new thread"
"""Python's message of the RuntimeError."""
_BY_CLONE3 = (
    "the seccomp profile answers clone3 with EPERM, and glibc falls back to clone only on ENOSYS. The default profile "
    "of containerd before 1.4.10 (1.5: before 1.5.6) and of docker before 20.10.10 does so. Update the container "
    "runtime, or run without a profile: in the chart podSecurityContext.seccompProfile.type: Unconfined, which the "
    "namespace has to admit (pod-security.kubernetes.io/enforce: privileged); in docker --security-opt "
    "seccomp=unconfined"
)
_BY_CLONE = (
    "the system answers clone with EPERM: a seccomp profile or a security module forbids threads. Allow the system "
    "calls clone and clone3"
)
_BY_LIMIT = (
    "a limit on processes and threads is reached (EAGAIN). Raise the limit of the pod (podPidsLimit of the kubelet), "
    "of the container (--pids-limit), of the unit (TasksMax) or of the user (ulimit -u)"
)


@contextmanager
def threads_needed() -> Iterator[None]:
    """Start a test thread before the block, which starts more; raises StartError if any of them cannot start."""
    error = _start_thread()
    if error:
        raise StartError(f"cannot start a thread: {why_refused(error)}")
    try:
        yield
    except RuntimeError as failure:
        if _THREAD_ERROR not in str(failure):
            raise
        # Python gives no error number. The test thread started, so threads are not forbidden: it is a limit.
        raise StartError(f"cannot start another thread: {_BY_LIMIT}") from failure


def bound_arenas() -> None:
    """Limit the memory arenas: with many concurrent large manifests the process takes a fifth less memory (measured).

    Call it before other threads start; without glibc it does nothing.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def why_refused(error: int) -> str:
    """Why the system refused to start a thread or process, by the error number, and what to do."""
    if error == errno.EPERM:
        return _BY_CLONE3 if _clone3_is_forbidden() else _BY_CLONE
    return _BY_LIMIT if error == errno.EAGAIN else os.strerror(error)


def _start_thread() -> int:
    """Start a thread and wait for its end; returns 0, or the error number that Python's RuntimeError lacks."""
    system = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    error = int(system.pthread_create(ctypes.byref(thread), None, system.getpid, None))
    if not error:
        system.pthread_join(thread, None)
    return error


def _clone3_is_forbidden() -> bool:
    """Whether clone3 fails with EPERM; the arguments are invalid, so an allowed call starts nothing."""
    if sys.platform != "linux":
        return False
    system = ctypes.CDLL(None, use_errno=True)
    system.syscall(ctypes.c_long(CLONE3), None, ctypes.c_size_t(0))
    return ctypes.get_errno() == errno.EPERM
